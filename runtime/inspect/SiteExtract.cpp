// `inspect extract`: code image and schedule joined into stand-alone files.
#include "runtime/inspect/SiteExtract.h"

#include "runtime/format/CubinPatch.h"
#include "runtime/format/OutputFolder.h"
#include "runtime/inspect/TextTable.h"

#include <filesystem>
#include <fmt/format.h>
#include <span>

namespace calibatt {

static std::span<const uint8_t> bytesOf(const std::string &text) {
  return {reinterpret_cast<const uint8_t *>(text.data()), text.size()};
}

Result<std::vector<ExtractedFile>> extractSite(const PackageReader &package, const Site &site,
                                               const std::string &folder) {
  SiteCosts costs(package);
  auto found = siteRow(package, site, costs);
  if (!found)
    return found.takeError();
  const SiteRow row = found.take();
  std::string name = fmt::format("{}: {} (kernel {})", package.path(), siteName(site), row.kernel);
  auto fatbin = package.fatbin(row.record.code);
  if (!fatbin)
    return fatbin.takeError();
  auto cuda = package.cuda(row.record.code);
  if (!cuda)
    return cuda.takeError();
  std::vector<uint8_t> schedule;
  if (row.record.data != kNone) {
    auto image = package.data(row.record.data);
    if (!image)
      return image.takeError();
    schedule = image.take();
    if (Status s = patchScheduleSymbol(*fatbin, schedule); !s)
      return Error{fmt::format("{}: {}", name, s.message())};
  }
  auto cubin = findCubin(*fatbin);
  if (!cubin)
    return Error{fmt::format("{}: {}", name, cubin.message())};

  auto out = OutputFolder::make(folder);
  if (!out)
    return out.takeError();
  std::string stem =
      (std::filesystem::path(folder) / fmt::format("L{}-H{}-S{}", site.layer, site.head, site.step))
          .string();
  std::string whole =
      schedule.empty() ? "its schedule is in the code" : "with the schedule written into it";
  struct Content {
    const char *suffix;
    std::string what;
    std::span<const uint8_t> bytes;
  };
  std::vector<Content> contents = {
      {".cubin", fmt::format("{} machine code, {}", row.arch, whole), *cubin},
      {".fatbin", "the same as a fatbin", *fatbin},
      {".cu", "the CUDA C++ it was compiled from", bytesOf(*cuda)},
  };
  if (!schedule.empty())
    contents.push_back({".schedule", "the schedule image (runtime/format/ScheduleLayout.h)",
                        std::span<const uint8_t>(schedule)});
  std::vector<ExtractedFile> files;
  std::vector<NamedBytes> written;
  for (const Content &content : contents) {
    files.push_back({stem + content.suffix, content.what, content.bytes.size()});
    written.push_back({files.back().path, content.bytes});
  }
  if (Status s = out->writeTogether(written); !s)
    return s.takeError();
  return files;
}

std::string extractText(const std::vector<ExtractedFile> &files, const SiteRow &row,
                        const TextStyle &style) {
  std::string text = fmt::format("{}: kernel {}, form {}, {}\n", style.bold(siteName(row.site)),
                                 row.kernel, formName(row.form), row.arch);
  TextTable table({"file", ">bytes", "what"});
  for (const ExtractedFile &file : files)
    table.addRow({file.path, groupedNumber(file.bytes), file.what});
  text += table.text(style);
  const KernelRecord &record = row.record;
  std::string heads = record.heads == 1 ? fmt::format("head {}", record.headBase)
                                        : fmt::format("heads {}..{}", record.headBase,
                                                      record.headBase + record.heads - 1);
  text += fmt::format("  entry {}: {} of the layer; launch it with 384 threads, {} bytes of "
                      "dynamic shared memory\n  and LaunchParams (runtime/format/LaunchParams.h)",
                      row.symbol, heads, row.dynamicSmem);
  return text + (record.data == kNone ? ".\n" : " whose schedule is null.\n");
}

nlohmann::ordered_json extractJson(const std::vector<ExtractedFile> &files, const SiteRow &row) {
  nlohmann::ordered_json json = siteRowJson(row);
  json["files"] = nlohmann::ordered_json::array();
  for (const ExtractedFile &file : files)
    json["files"].push_back({{"path", file.path}, {"bytes", file.bytes}, {"what", file.what}});
  return json;
}

} // namespace calibatt
