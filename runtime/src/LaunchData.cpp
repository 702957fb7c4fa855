#include "runtime/src/LaunchData.h"

#include "runtime/format/OrderedPool.h"

#include <algorithm>
#include <exception>
#include <fmt/format.h>

namespace calibatt {

LaunchDataReader::LaunchDataReader(const PackageReader &package, uint32_t threads)
    : package(package),
      threads(threads ? threads : std::max(1u, std::thread::hardware_concurrency())) {}

Result<LaunchData> LaunchDataReader::readOne(uint32_t kernel, ScheduleDecoder &decoder) const {
  LaunchData data;
  const KernelRecord &record = package.kernel(kernel);
  if (record.data != kNone) {
    auto image = decoder.image(record.data);
    if (!image)
      return image.takeError();
    data.image = image.take();
    if (Status sound = checkDataImage(package, kernel, data.image, grids.at(record.code)); !sound)
      return sound.takeError();
  }
  auto order = package.tileOrder(kernel, data.image);
  if (!order)
    return order.takeError();
  data.order = order.take();
  return data;
}

Status LaunchDataReader::read(std::span<const uint32_t> kernels, const Make &make,
                              const Take &take) {
  for (uint32_t kernel : kernels)
    if (const KernelRecord &record = package.kernel(kernel);
        record.data != kNone && !grids.contains(record.code)) {
      auto grid = package.compiledGrid(record.code);
      if (!grid)
        return grid.takeError();
      grids.emplace(record.code, *grid);
    }
  // A chain is one thread's: its decoder goes from step to step.
  std::map<Chain, std::vector<size_t>> chains;
  for (size_t i = 0; i < kernels.size(); ++i)
    chains[{package.kernel(kernels[i]).layer, package.kernel(kernels[i]).headBase}].push_back(i);
  struct Work {
    ScheduleDecoder *decoder;
    std::vector<size_t> which;
  };
  std::vector<Work> work;
  work.reserve(chains.size());
  for (auto &[chain, which] : chains)
    work.push_back({&decoders.try_emplace(chain, package).first->second, std::move(which)});

  const auto readChain = [&](size_t w) -> Result<std::vector<LaunchData>> {
    std::vector<LaunchData> read;
    for (size_t i : work[w].which)
      try {
        auto data = readOne(kernels[i], *work[w].decoder);
        if (!data)
          return data.takeError();
        if (Status made = make(i, *data); !made)
          return made.takeError();
        read.push_back(data.take());
      } catch (
          const std::exception &error) { // to name the kernel; memory is the only one to expect
        return Error{fmt::format("{}: kernel {}: {}", package.path(), kernels[i], error.what())};
      }
    return read;
  };
  return runOrdered(work.size(), threads, readChain, [&](size_t w, std::vector<LaunchData> read) {
    Status status;
    for (size_t k = 0; status && k < read.size(); ++k)
      status = take(work[w].which[k], std::move(read[k]));
    return status;
  });
}

} // namespace calibatt
