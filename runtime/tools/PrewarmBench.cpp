#include "runtime/tools/PrewarmBench.h"

#include "runtime/inspect/PackageSummary.h"
#include "runtime/src/LaunchData.h"
#include "runtime/tools/Commands.h"
#include "runtime/tools/Report.h"
#include "runtime/tools/verify/DeviceSession.h"

#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <memory>
#include <set>

namespace calibatt {
namespace {

/// One step, after the one before it.
struct StepPrewarm {
  double seconds = 0;
  uint64_t windowBytes = 0; ///< of device memory for this step and the one before
};

double secondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// What every layer launches at a step.
std::vector<uint32_t> kernelsOf(const PackageReader &package, uint32_t step) {
  const Problem &p = package.manifest().problem;
  std::vector<uint32_t> kernels;
  for (uint32_t layer = 0; layer < p.layers; ++layer)
    for (const KernelLaunch &launch : planLaunches(package, {0, p.heads}, layer, step).launches)
      kernels.push_back(launch.kernel);
  return kernels;
}

/// Images of both steps, each once, and a word a tile.
uint64_t windowBytes(const PackageReader &package, uint32_t step, uint32_t batch) {
  uint64_t bytes = 0;
  std::set<uint32_t> kernels, images;
  for (uint32_t s = step ? step - 1 : 0; s <= step; ++s)
    for (uint32_t kernel : kernelsOf(package, s))
      kernels.insert(kernel);
  for (uint32_t kernel : kernels) {
    const KernelRecord &record = package.kernel(kernel);
    bytes += uint64_t(record.heads) * package.manifest().problem.blocks() * batch * 4;
    if (record.data != kNone && images.insert(record.data).second)
      bytes += package.dataBytes(record.data);
  }
  return bytes;
}

Result<std::vector<StepPrewarm>> decodeOnHost(const PackageReader &package,
                                              const PrewarmOptions &options) {
  LaunchDataReader reader(package, options.threads);
  std::vector<StepPrewarm> steps;
  for (uint32_t step = 0; step < package.manifest().problem.steps; ++step) {
    const std::vector<uint32_t> kernels = kernelsOf(package, step);
    const auto begin = std::chrono::steady_clock::now();
    if (Status read = reader.read(
            kernels, [](size_t, const LaunchData &) { return Status(); },
            [](size_t, LaunchData) { return Status(); });
        !read)
      return read.takeError();
    steps.push_back({secondsSince(begin), windowBytes(package, step, options.batch)});
  }
  return steps;
}

struct DestroySession {
  void operator()(calibatt_session_t *session) const { calibatt_session_destroy(session); }
};
struct ClosePackage {
  void operator()(calibatt_package_t *package) const { calibatt_package_close(package); }
};

/// A new session a pair of steps: what it holds is then those two.
Result<std::vector<StepPrewarm>> prewarmDevice(const PackageReader &reader,
                                               const PrewarmOptions &options) {
  const auto failed = [] { return Error{calibatt_last_error_message()}; };
  calibatt_package_t *opened = nullptr;
  if (calibatt_package_open(options.package.c_str(), &opened) != CALIBATT_STATUS_OK)
    return failed();
  const std::unique_ptr<calibatt_package_t, ClosePackage> package(opened);
  std::vector<StepPrewarm> steps;
  for (uint32_t step = 0; step < reader.manifest().problem.steps; ++step) {
    calibatt_session_options_t settings = CALIBATT_INIT(calibatt_session_options_t);
    settings.device = options.device.c_str();
    settings.host_threads = options.threads;
    calibatt_session_t *made = nullptr;
    if (calibatt_session_create(package.get(), &settings, &made) != CALIBATT_STATUS_OK)
      return failed();
    const std::unique_ptr<calibatt_session_t, DestroySession> session(made);
    const uint32_t before = step ? step - 1 : 0;
    if (step && calibatt_session_prewarm(made, &before, 1, options.batch) != CALIBATT_STATUS_OK)
      return failed();
    const auto begin = std::chrono::steady_clock::now();
    if (calibatt_session_prewarm(made, &step, 1, options.batch) != CALIBATT_STATUS_OK)
      return failed();
    const double seconds = secondsSince(begin);
    calibatt_session_stats_t stats = CALIBATT_INIT(calibatt_session_stats_t);
    if (calibatt_session_stats(made, &stats) != CALIBATT_STATUS_OK)
      return failed();
    steps.push_back({seconds, stats.device_bytes});
  }
  return steps;
}

} // namespace

int runPrewarmBench(const PrewarmOptions &options) {
  auto package = PackageReader::open(options.package);
  if (!package)
    return reportFailure(package.message());
  const bool onHost = options.device == "host";
  auto measured = onHost ? decodeOnHost(*package, options) : prewarmDevice(*package, options);
  if (!measured)
    return reportFailure(measured.message());
  // The first step has none before it: its time has the code in it, its window is half of one.
  const StepPrewarm first = measured->front();
  std::vector<StepPrewarm> next(measured->begin() + (measured->size() > 1), measured->end());
  std::sort(next.begin(), next.end(), [](auto &a, auto &b) { return a.seconds < b.seconds; });
  const double median = next[next.size() / 2].seconds, slowest = next.back().seconds;
  uint64_t window = 0;
  for (const StepPrewarm &step : next)
    window = std::max(window, step.windowBytes);

  const std::string threads =
      options.threads ? counted(options.threads, "thread") : "one thread per CPU";
  if (options.json)
    return printJson({{"package", options.package},
                      {"device", options.device},
                      {"threads", options.threads},
                      {"batch", options.batch},
                      {"steps", measured->size()},
                      {"first_step_s", first.seconds},
                      {"next_step_median_s", median},
                      {"next_step_slowest_s", slowest},
                      {"two_step_window_bytes", window}});
  const TextStyle style = stdoutStyle();
  TextFields fields;
  fields.add("first step", duration(first.seconds));
  fields.add("next step", fmt::format("{} median, {} slowest of {}", duration(median),
                                      duration(slowest), counted(next.size(), "step")));
  fields.add("two steps", fmt::format("{} of device memory", byteQuantity(window)));
  return printText(
      fmt::format("{}  {}, {}, {}\n{}", style.bold("prewarm"), options.device, threads,
                  onHost ? "schedules decoded, nothing uploaded" : "schedules decoded and uploaded",
                  fields.text(style)));
}

} // namespace calibatt
