#include "runtime/src/CudaImages.h"

#include "runtime/format/Quantity.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace calibatt {
namespace {

/// Launches whose images may be on the host at a time: two steps of 40 layers.
constexpr size_t kDecodedAtATime = 80;

// What cuMemAlloc rounds to, so that a budget means what it says.
uint64_t allocationBytes(uint64_t bytes) { return (bytes + 511) & ~uint64_t(511); }

} // namespace

CudaImages::~CudaImages() {
  for (auto &[key, blob] : blobs)
    driver.memFree(blob.address);
  for (auto &[index, code] : codes)
    driver.libraryUnload(code.library);
}

CudaImages::BlobKey CudaImages::workKey(const KernelLaunch &launch, uint32_t batch) const {
  // A rule is the whole package's: with the image it makes the order.
  const KernelRecord &record = package.kernel(launch.kernel);
  const bool stored = record.orderRule == TileOrder::Stored;
  return {stored ? BlobKey::WorkOfOrder : BlobKey::WorkOfRule,
          stored ? record.order : record.data,
          package.codeInfo(record.code).persistent ? record.data + 1 : 0,
          launch.headBegin - launch.headBase,
          launch.headBegin,
          launch.headCount,
          batch};
}

bool CudaImages::find(const KernelLaunch &launch, uint32_t batch, ResidentKernel &resident) const {
  const KernelRecord &record = package.kernel(launch.kernel);
  const auto code = codes.find(record.code);
  const auto work = blobs.find(workKey(launch, batch));
  if (code == codes.end() || work == blobs.end() || !work->second.arrived)
    return false;
  resident.kernel = code->second.kernel;
  resident.dynamicSmem = package.codeInfo(record.code).dynamicSmem;
  resident.work = work->second.address;
  resident.workCount = resident.ctas = work->second.count;
  resident.workBegin = 0;
  if (work->second.lists) {
    resident.ctas = work->second.lists;
    resident.workBegin = resident.work + 4 * uint64_t(resident.workCount);
  }
  resident.schedule = 0;
  if (record.data == kNone)
    return true;
  const auto data = blobs.find(dataKey(record.data));
  if (data == blobs.end() || !data->second.arrived)
    return false;
  resident.schedule = data->second.address;
  return true;
}

void CudaImages::pin(const KernelLaunch &launch, uint32_t batch) {
  const KernelRecord &record = package.kernel(launch.kernel);
  if (const auto work = blobs.find(workKey(launch, batch)); work != blobs.end())
    work->second.pinned = true;
  if (record.data != kNone)
    if (const auto data = blobs.find(dataKey(record.data)); data != blobs.end())
      data->second.pinned = true;
}

Outcome CudaImages::load(std::span<const KernelLaunch> launches, uint32_t batch) {
  ++loads;
  // First mark what is there, so that making room never releases what this very load needs.
  for (const KernelLaunch &launch : launches) {
    const uint32_t data = package.kernel(launch.kernel).data;
    if (const auto found = blobs.find(workKey(launch, batch)); found != blobs.end())
      found->second.needed = loads;
    if (const auto found = blobs.find(dataKey(data)); data != kNone && found != blobs.end())
      found->second.needed = loads;
  }
  std::vector<KernelLaunch> missing;
  for (const KernelLaunch &launch : launches) {
    if (Outcome code = loadCode(package.kernel(launch.kernel).code); !code.ok())
      return code;
    if (lacks(launch, batch))
      missing.push_back(launch);
  }
  // Not all at once: a model's images are gigabytes.
  for (std::span<const KernelLaunch> rest(missing); !rest.empty();) {
    const auto wave = rest.first(std::min(rest.size(), kDecodedAtATime));
    rest = rest.subspan(wave.size());
    std::vector<uint32_t> kernels;
    for (const KernelLaunch &launch : wave)
      kernels.push_back(launch.kernel);
    std::vector<WorkList> work(wave.size());
    Outcome uploaded;
    Status read = reader.read(
        kernels,
        [&](size_t i, const LaunchData &data) -> Status {
          auto list = makeWorkList(package, wave[i], batch, data, processors);
          if (!list)
            return list.takeError();
          work[i] = list.take();
          return {};
        },
        [&](size_t i, LaunchData data) -> Status {
          uploaded = loadData(wave[i].kernel, std::move(data.image));
          if (uploaded.ok())
            uploaded = loadWork(workKey(wave[i], batch), std::move(work[i]));
          return uploaded.ok() ? Status() : Error{uploaded.message};
        });
    if (!uploaded.ok())
      return uploaded;
    if (!read)
      return {CALIBATT_STATUS_BAD_PACKAGE, read.message()};
    if (Outcome waited = waitForCopies(); !waited.ok())
      return waited;
  }
  return waitForCopies(); // of a load that failed
}

bool CudaImages::lacks(const KernelLaunch &launch, uint32_t batch) const {
  const uint32_t data = package.kernel(launch.kernel).data;
  return (data != kNone && !blobs.contains(dataKey(data))) ||
         !blobs.contains(workKey(launch, batch));
}

Outcome CudaImages::waitForCopies() {
  const auto arrived = [](const auto &entry) { return entry.second.arrived; };
  if (std::all_of(blobs.begin(), blobs.end(), arrived))
    return {};
  if (Outcome waited = uploads.wait(); !waited.ok())
    return waited;
  for (auto &[key, blob] : blobs)
    blob.arrived = true;
  return {};
}

Outcome CudaImages::loadCode(uint32_t index) {
  if (codes.contains(index))
    return {};
  const CodeImage &info = package.codeInfo(index);
  auto fatbin = package.fatbin(index);
  if (!fatbin)
    return {CALIBATT_STATUS_BAD_PACKAGE, fatbin.message()};
  Code code;
  const auto failed = [&](Outcome outcome) {
    outcome.message =
        fmt::format("{}: kernel {}: {}", package.path(), info.symbol, outcome.message);
    return outcome;
  };
  Outcome outcome = driver.check(driver.libraryLoadData(&code.library, fatbin->data(), nullptr,
                                                        nullptr, 0, nullptr, nullptr, 0),
                                 "cuLibraryLoadData");
  if (!outcome.ok())
    return failed(std::move(outcome));
  // Asking for the function loads it into this context now: the first launch of a kernel must not
  // be the one that waits for it.
  CuFunction function = nullptr;
  outcome = driver.check(driver.libraryGetKernel(&code.kernel, code.library, info.symbol.c_str()),
                         "cuLibraryGetKernel");
  if (outcome.ok())
    outcome = driver.check(driver.kernelGetFunction(&function, code.kernel), "cuKernelGetFunction");
  if (outcome.ok())
    outcome = driver.check(driver.kernelSetAttribute(kCuFuncMaxDynamicSharedBytes,
                                                     int(info.dynamicSmem), code.kernel, device),
                           "cuKernelSetAttribute");
  if (!outcome.ok()) {
    driver.libraryUnload(code.library);
    return failed(std::move(outcome));
  }
  codes.emplace(index, code);
  return {};
}

CuKernel CudaImages::loadedCode(uint32_t code) const {
  const auto found = codes.find(code);
  return found == codes.end() ? nullptr : found->second.kernel;
}

Outcome CudaImages::makeRoom(uint64_t bytes) {
  while (budget && bytesUsed + bytes > budget) {
    auto oldest = blobs.end();
    for (auto it = blobs.begin(); it != blobs.end(); ++it)
      if (!it->second.pinned && it->second.needed < loads &&
          (oldest == blobs.end() || it->second.needed < oldest->second.needed))
        oldest = it;
    if (oldest == blobs.end())
      return {CALIBATT_STATUS_OUT_OF_MEMORY,
              fmt::format("byte_budget is {}, but {} are in use by these steps and captured graphs "
                          "and {} more are needed",
                          budget, bytesUsed, bytes)};
    // cuMemFree waits for the launches that may still read the memory.
    if (Outcome freed = driver.check(driver.memFree(oldest->second.address), "cuMemFree");
        !freed.ok())
      return freed;
    bytesUsed -= oldest->second.bytes;
    blobs.erase(oldest);
    ++evictions;
  }
  return {};
}

template <typename T>
Outcome CudaImages::upload(const BlobKey &key, std::vector<T> source, uint32_t count,
                           uint32_t lists) {
  Blob blob;
  blob.bytes = allocationBytes(source.size() * sizeof(T));
  blob.count = count;
  blob.lists = lists;
  blob.needed = loads;
  if (Outcome room = makeRoom(blob.bytes); !room.ok())
    return room;
  if (Outcome made = driver.check(driver.memAlloc(&blob.address, blob.bytes), "cuMemAlloc");
      !made.ok())
    return made;
  if (Outcome copied = uploads.copy(blob.address, std::move(source)); !copied.ok()) {
    driver.memFree(blob.address);
    return copied;
  }
  bytesUsed += blob.bytes;
  blobs.emplace(key, blob);
  return {};
}

Outcome CudaImages::loadData(uint32_t kernel, std::vector<uint8_t> image) {
  const uint32_t index = package.kernel(kernel).data;
  if (index == kNone || blobs.contains(dataKey(index)))
    return {};
  return upload(dataKey(index), std::move(image), 0);
}

Outcome CudaImages::loadWork(const BlobKey &key, WorkList work) {
  if (blobs.contains(key))
    return {};
  return upload(key, std::move(work.words), work.count, work.lists);
}

DeviceStats CudaImages::stats() const {
  DeviceStats stats;
  stats.bytes = bytesUsed;
  stats.codeImages = uint32_t(codes.size());
  stats.evictions = evictions;
  for (const auto &[key, blob] : blobs)
    stats.dataImages += key.kind == BlobKey::Data;
  return stats;
}

} // namespace calibatt
