#include "runtime/src/LaunchData.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <fmt/format.h>
#include <optional>
#include <thread>

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

Result<std::vector<LaunchData>> LaunchDataReader::read(std::span<const uint32_t> kernels,
                                                       const Then &then) {
  for (uint32_t kernel : kernels)
    if (const KernelRecord &record = package.kernel(kernel);
        record.data != kNone && !grids.contains(record.code)) {
      auto grid = compiledGrid(package, record.code);
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
  for (auto &[chain, which] : chains)
    work.push_back({&decoders.try_emplace(chain, package).first->second, std::move(which)});

  std::vector<std::optional<Result<LaunchData>>> results(kernels.size());
  std::atomic<size_t> next{0};
  const auto run = [&] {
    for (size_t w; (w = next.fetch_add(1, std::memory_order_relaxed)) < work.size();)
      for (size_t i : work[w].which)
        // An exception must not leave a thread; memory is the only one to expect.
        try {
          results[i] = readOne(kernels[i], *work[w].decoder);
          if (then && *results[i])
            if (Status made = then(i, **results[i]); !made)
              results[i] = made.takeError();
        } catch (const std::exception &error) {
          results[i] =
              Error{fmt::format("{}: kernel {}: {}", package.path(), kernels[i], error.what())};
        }
  };
  {
    std::vector<std::jthread> pool;
    for (size_t i = 1; i < std::min<size_t>(threads, work.size()); ++i)
      pool.emplace_back(run);
    run();
  }
  std::vector<LaunchData> data;
  for (auto &result : results) {
    if (!*result)
      return result->takeError();
    data.push_back(result->take());
  }
  return data;
}

} // namespace calibatt
