#include "runtime/src/LaunchData.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <fmt/format.h>
#include <mutex>
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

Status LaunchDataReader::read(std::span<const uint32_t> kernels, const Make &make,
                              const Take &take) {
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
  work.reserve(chains.size());
  for (auto &[chain, which] : chains)
    work.push_back({&decoders.try_emplace(chain, package).first->second, std::move(which)});

  std::vector<std::optional<Result<LaunchData>>> results(kernels.size());
  std::mutex mutex; // of `results`
  std::condition_variable arrived;
  std::atomic<bool> stop{false};
  const auto readAndMake = [&](size_t i, ScheduleDecoder &decoder) -> Result<LaunchData> {
    // An exception must not leave a thread; memory is the only one to expect.
    try {
      auto data = readOne(kernels[i], decoder);
      if (data)
        if (Status made = make(i, *data); !made)
          return made.takeError();
      return data;
    } catch (const std::exception &error) {
      return Error{fmt::format("{}: kernel {}: {}", package.path(), kernels[i], error.what())};
    }
  };
  std::atomic<size_t> next{0};
  const auto run = [&] {
    for (size_t w; (w = next.fetch_add(1, std::memory_order_relaxed)) < work.size();)
      for (size_t i : work[w].which) {
        if (stop)
          return;
        auto result = readAndMake(i, *work[w].decoder);
        {
          const std::lock_guard lock(mutex);
          results[i] = std::move(result);
        }
        arrived.notify_one();
      }
  };
  std::vector<std::jthread> pool;
  pool.reserve(std::min<size_t>(threads, work.size()));
  for (size_t i = 0; i < std::min<size_t>(threads, work.size()); ++i)
    pool.emplace_back(run);
  Status status;
  for (size_t i = 0; status && i < kernels.size(); ++i) {
    std::unique_lock lock(mutex);
    arrived.wait(lock, [&] { return results[i].has_value(); });
    Result<LaunchData> result = std::move(*results[i]);
    lock.unlock();
    status = result ? take(i, result.take()) : Status(result.takeError());
  }
  stop = true;
  return status;
}

} // namespace calibatt
