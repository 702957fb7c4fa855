// Which kind of file it is, and the checks of all that are no packages.
#include "runtime/tools/check/FileCheck.h"

#include "calib_profiles/BitmapImport.h"
#include "calib_profiles/CountsFile.h"
#include "calib_profiles/CountsLock.h"
#include "calib_profiles/Dump.h"
#include "calib_profiles/ParallelFor.h"
#include "calib_profiles/Profile.h"
#include "calib_profiles/ProfileHeader.h"
#include "calib_profiles/PromptFold.h"
#include "calib_profiles/PromptRecord.h"
#include "runtime/format/InputFile.h"
#include "runtime/format/TablesDigest.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <mutex>

namespace calibatt {

namespace {

constexpr std::string_view kRecordEnding = ".prompt";

void fail(FileCheck &check, std::string message, std::string tensor = "", std::string site = "") {
  check.faults.push_back({std::move(tensor), std::nullopt, std::move(site), std::move(message)});
}

/// `one` for every i, on all cores; the order of faults is that of i.
void checkAll(FileCheck &check, uint64_t count, const std::function<FileFault(uint64_t)> &one) {
  std::vector<std::pair<uint64_t, FileFault>> found;
  std::mutex mutex;
  Status status = parallelFor(count, 0, [&](uint64_t i) -> Status {
    if (FileFault fault = one(i); !fault.message.empty()) {
      const std::lock_guard lock(mutex);
      found.emplace_back(i, std::move(fault));
    }
    return {};
  });
  if (!status)
    fail(check, check.path + ": " + status.message());
  std::sort(found.begin(), found.end(),
            [](const auto &a, const auto &b) { return a.first < b.first; });
  for (auto &[index, fault] : found)
    check.faults.push_back(std::move(fault));
  check.chunks = count;
}

void checkProfile(FileCheck &check) {
  check.kind = "profile";
  Result<ProfileReader> profile = ProfileReader::open(check.path);
  if (!profile)
    return fail(check, profile.message());
  const ProfileHeader &h = profile->header();
  checkAll(check, uint64_t(h.layers) * h.heads, [&](uint64_t i) -> FileFault {
    const uint32_t layer = uint32_t(i / h.heads), head = uint32_t(i % h.heads);
    // What is stored, and that it decodes to masks.
    Result<HeadProfile> masks = profile->head(layer, head);
    if (masks)
      return {};
    return {"pool", std::nullopt, fmt::format("layer {}, head {}", layer, head), masks.message()};
  });
}

void checkCounts(FileCheck &check) {
  check.kind = "counts";
  Result<CountsLock> lock = CountsLock::forReading(check.path);
  if (!lock)
    return fail(check, lock.message());
  // A check changes nothing, so that it does not go on with what a killed run left.
  if (hasWaitingPrompt(check.path)) {
    check.note = "a prompt waits beside them to be counted; `calibatt profile info` does that, "
                 "then check again";
    check.hashed = false;
    return;
  }
  Result<CountsReader> counts = CountsReader::open(check.path);
  if (!counts)
    return fail(check, counts.message());
  if (counts->interrupted())
    return fail(check, fmt::format("{}: prompt {} is half folded in, and its record is missing",
                                   check.path, *counts->interrupted()));
  if (!counts->hasDigest())
    check.note = "version 1.x has no hash of its document, state and prompts: these are unchecked";
  checkAll(check, counts->layout().sites, [&](uint64_t site) -> FileFault {
    Status status = counts->checkHash(site);
    return status ? FileFault()
                  : FileFault{"", std::nullopt, counts->siteName(site), status.message()};
  });
}

void checkRecord(FileCheck &check) {
  check.kind = "record";
  if (!check.path.ends_with(kRecordEnding))
    return fail(check, fmt::format("{}: is a prompt's record, which is read with its counts and "
                                   "named after them, COUNTS{}",
                                   check.path, kRecordEnding));
  const std::string path = check.path.substr(0, check.path.size() - kRecordEnding.size());
  Result<CountsReader> counts = CountsReader::open(path);
  if (!counts)
    return fail(check, counts.message());
  Result<PromptReader> record = PromptReader::open(check.path, *counts);
  if (!record)
    return fail(check, record.message());
  checkAll(check, counts->layout().sites, [&](uint64_t site) -> FileFault {
    std::vector<uint16_t> blocks;
    Status status = record->blocks(site, blocks);
    return status ? FileFault()
                  : FileFault{"", std::nullopt, counts->siteName(site), status.message()};
  });
}

template <typename Reader> void checkStructure(FileCheck &check, const char *kind) {
  check.kind = kind;
  check.hashed = false;
  check.note = "this kind of file has no hashes: only its structure was checked";
  if (Result<Reader> reader = Reader::open(check.path); !reader)
    fail(check, reader.message());
}

/// `format` of `__metadata__.calibatt`, or nothing.
std::string formatOf(const SafetensorsReader &file, const std::string &document) {
  Result<Json> json = parseJson(document, file.path());
  if (!json || !json->is_object() || !json->contains("format") || !(*json)["format"].is_string())
    return "";
  return (*json)["format"].get<std::string>();
}

void checkDocument(FileCheck &check, const SafetensorsReader &file, const std::string &document) {
  const std::string format = formatOf(file, document);
  if (format == kBitmapFormat)
    return checkStructure<BitmapReader>(check, "bitmaps");
  if (format == kProfileFormat) {
    checkProfile(check);
  } else {
    // Whatever else it is, the reader of packages says what is wrong with it.
    check.kind = "package";
    Result<PackageReader> package = PackageReader::openAny(check.path);
    if (package)
      check = checkPackage(*package);
    else
      fail(check, package.message());
  }
  if (!check.passed() && check.faults.front().tensor.empty())
    check.faults.front().tensor = damagedTable(file);
}

} // namespace

void limitFaults(FileCheck &check) {
  if (check.faults.size() <= kMaxFaults)
    return;
  const size_t more = check.faults.size() - kMaxFaults;
  check.faults.resize(kMaxFaults);
  fail(check, fmt::format("{}: and {} more", check.path, more));
}

nlohmann::ordered_json checkJson(const FileCheck &check) {
  nlohmann::ordered_json faults = nlohmann::ordered_json::array();
  for (const FileFault &fault : check.faults) {
    nlohmann::ordered_json entry;
    entry["tensor"] = nullptr;
    entry["chunk"] = nullptr;
    entry["site"] = nullptr;
    if (!fault.tensor.empty())
      entry["tensor"] = fault.tensor;
    if (fault.chunk)
      entry["chunk"] = *fault.chunk;
    if (!fault.site.empty())
      entry["site"] = fault.site;
    entry["message"] = fault.message;
    faults.push_back(std::move(entry));
  }
  return {{"file", check.path},     {"kind", check.kind},       {"passed", check.passed()},
          {"hashed", check.hashed}, {"tensors", check.tensors}, {"chunks", check.chunks},
          {"bytes", check.bytes},   {"note", check.note},       {"faults", std::move(faults)}};
}

FileCheck checkFile(const std::string &path) {
  FileCheck check;
  check.path = path;
  Result<SafetensorsReader> file = SafetensorsReader::open(path);
  if (!file) {
    fail(check, file.message());
    return check;
  }
  check.tensors = file->tensors().size();
  check.bytes = file->file().size();
  if (const std::string *document = file->metadata("calibatt"))
    checkDocument(check, *file, *document);
  else if (file->metadata(kCountsKey))
    checkCounts(check);
  else if (file->metadata(kRecordKey))
    checkRecord(check);
  else if (file->metadata(kDumpKey))
    checkStructure<DumpReader>(check, "dump");
  else
    fail(check,
         fmt::format("{}: __metadata__ says of no kind that is known here: wanted a package, "
                     "shard, profile, counts, dump or bitmaps",
                     path));
  limitFaults(check);
  return check;
}

} // namespace calibatt
