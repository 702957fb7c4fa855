// `calibatt bench`: how long the calls of a package take.
#include "runtime/src/KernelSchedule.h"
#include "runtime/tools/Commands.h"
#include "runtime/tools/PrewarmBench.h"
#include "runtime/tools/Report.h"
#include "runtime/tools/verify/DeviceSession.h"
#include "runtime/usage/Usage.h"

#include <algorithm>
#include <fmt/format.h>
#include <memory>
#include <set>

namespace calibatt {
namespace {

/// Calls timed where the user names neither layer nor step.
constexpr size_t kDefaultCalls = 8;

struct BenchOptions {
  std::string package;
  std::string device = "cuda:0";
  std::optional<uint32_t> layer, step;
  std::optional<uint32_t> runs;
  uint32_t batch = 1;
  uint64_t seed = 1;
  double deviation = 2;
  bool prewarm = false;
  uint32_t threads = 0;
  bool json = false;
};

/// One (layer, step), or the dense kernel, timed.
struct BenchRow {
  bool dense = false;
  uint32_t layer = 0, step = 0;
  size_t launches = 0;
  double computed = 0; ///< visits over those of dense attention
  double flops = 0;    ///< 4 * head_dim for each pair of a query and a kept key
  double median = 0, fastest = 0, slowest = 0; ///< seconds
  double megahertz = 0, watts = 0;             ///< while it ran; 0 where not known
  bool throttled = false;                      ///< by power or heat
  double tiles = 0, reruns = 0;                ///< of a call; those whose frozen maximum did not do

  double tflops() const { return flops / median * 1e-12; }
  /// Of what the tensor cores do at that clock; 0 where not known.
  double shareOfPeak(double flopsPerClock) const {
    const double peak = flopsPerClock * megahertz * 1e6;
    return peak > 0 ? flops / median / peak : 0;
  }
};

/// Tiles of one head of a schedule.
double tilesOf(const Schedule &schedule, uint32_t head) {
  const uint32_t rows =
      schedule.isRepetitive(head) ? packedQueries(schedule.grid, schedule.tokens) : schedule.tokens;
  return double((rows + kBlock - 1) / kBlock);
}

/// Queries times keys of one head of a schedule, tails at their true length.
double pairsOf(const Schedule &schedule, uint32_t head) {
  double pairs = 0;
  auto length = [&](uint32_t block) {
    return double(std::min(schedule.tokens, (block + 1) * kBlock) - block * kBlock);
  };
  if (schedule.isRepetitive(head)) {
    for (uint16_t block : schedule.row(head, 0))
      pairs += length(block) * packedQueries(schedule.grid, schedule.tokens);
    return pairs;
  }
  for (uint32_t q = 0; q < schedule.queryBlocks; ++q) {
    double keys = 0;
    for (uint16_t block : schedule.row(head, q))
      keys += length(block);
    pairs += length(q) * keys;
  }
  return pairs;
}

Status countWork(const PackageReader &package, BenchRow &row) {
  const Problem &p = package.manifest().problem;
  double pairs = 0;
  uint64_t visits = 0;
  std::set<uint32_t> kernels;
  if (row.dense) {
    pairs = double(p.tokens) * p.tokens * p.heads;
    visits = uint64_t(p.blocks()) * p.blocks() * p.heads;
    row.tiles = double(p.heads) * p.blocks();
    const KernelRecord &record = package.kernel(package.denseKernel());
    row.launches = record.heads ? (p.heads + record.heads - 1) / record.heads : 1;
  } else {
    uint32_t decodedKernel = kNone;
    std::optional<Schedule> schedule;
    for (uint32_t head = 0; head < p.heads; ++head) {
      uint32_t kernel = package.route(row.layer, head, row.step);
      kernels.insert(kernel);
      if (kernel != decodedKernel) {
        auto decoded = kernelSchedule(package, kernel);
        if (!decoded)
          return decoded.takeError();
        schedule = decoded.take();
        decodedKernel = kernel;
      }
      uint32_t inside = head - package.kernel(kernel).headBase;
      if (inside >= schedule->heads)
        return Error{fmt::format("{}: layer {}, head {}, step {}: outside kernel {}",
                                 package.path(), row.layer, head, row.step, kernel)};
      pairs += pairsOf(*schedule, inside);
      for (uint32_t tile = 0; tile < schedule->rowsOf(inside); ++tile)
        visits += schedule->row(inside, tile).size();
      row.tiles += tilesOf(*schedule, inside);
    }
    row.launches = kernels.size();
  }
  row.computed = double(visits) / (double(p.blocks()) * p.blocks() * p.heads);
  row.flops = 4.0 * p.headDim * pairs;
  return {};
}

std::vector<BenchRow> chooseCalls(const Problem &p, const BenchOptions &options) {
  std::vector<BenchRow> all;
  for (uint32_t layer = 0; layer < p.layers; ++layer)
    for (uint32_t step = 0; step < p.steps; ++step)
      if ((!options.layer || *options.layer == layer) && (!options.step || *options.step == step))
        all.push_back({false, layer, step});
  if (options.layer || options.step || all.size() <= kDefaultCalls)
    return all;
  std::vector<BenchRow> spread;
  spread.reserve(kDefaultCalls);
  for (size_t i = 0; i < kDefaultCalls; ++i)
    spread.push_back(all[i * (all.size() - 1) / (kDefaultCalls - 1)]);
  return spread;
}

/// `text` where the value is known.
std::string known(double value, const std::string &text) { return value > 0 ? text : "-"; }

std::string benchText(const std::vector<BenchRow> &rows, const DeviceSession &session,
                      uint32_t runs, size_t calls, const TextStyle &style) {
  double denseSeconds = 0;
  for (const BenchRow &row : rows)
    if (row.dense)
      denseSeconds = row.median;
  std::string text = fmt::format("{}  {}, median of {}\n", style.bold("bench"),
                                 session.description(), counted(runs, "run"));
  TextTable table({">layer", ">step", ">launches", ">computed", ">median", ">fastest", ">slowest",
                   session.onHost() ? ">host GFLOP/s" : ">TFLOP/s", ">of peak", ">SM clock",
                   ">power", ">reruns", ">against dense"});
  for (const BenchRow &row : rows)
    table.addRow({row.dense ? "dense" : std::to_string(row.layer),
                  row.dense ? "-" : std::to_string(row.step), std::to_string(row.launches),
                  percentage(row.computed), duration(row.median), duration(row.fastest),
                  duration(row.slowest),
                  fmt::format("{:.1f}", row.tflops() * (session.onHost() ? 1e3 : 1)),
                  known(row.shareOfPeak(session.flopsPerClock()),
                        percentage(row.shareOfPeak(session.flopsPerClock()))),
                  known(row.megahertz,
                        fmt::format("{:.0f} MHz{}", row.megahertz, row.throttled ? " *" : "")),
                  known(row.watts, fmt::format("{:.0f} W", row.watts)),
                  session.onHost() ? "-" : percentage(row.reruns / row.tiles),
                  denseSeconds > 0 ? fmt::format("{:.2f}x", denseSeconds / row.median) : "-"});
  text += table.text(style);
  size_t timed = rows.size() - (denseSeconds > 0);
  if (timed < calls)
    text += fmt::format("  {} of {} timed; --layer and --step choose others\n", timed,
                        counted(calls, "call"));
  text += "  FLOP: 4 x head_dim for each query and key of the computed blocks.\n";
  if (session.flopsPerClock() > 0)
    text += "  Of peak: of what the tensor cores do in bf16 at the clock that was measured.\n";
  if (std::any_of(rows.begin(), rows.end(), [](const BenchRow &row) { return row.reruns > 0; }))
    text +=
        "  Reruns: tiles whose logits outgrew the maximum of their first block, computed twice.\n";
  if (std::any_of(rows.begin(), rows.end(), [](const BenchRow &row) { return row.throttled; }))
    text += "  * the clock was held back by power or heat\n";
  text += session.onHost()
              ? "  These are times of this machine's CPU: the GPU code was compiled, not run.\n"
              : "  Times are between two events around each call, launches included.\n";
  return text;
}

nlohmann::ordered_json benchJson(const std::vector<BenchRow> &rows, const DeviceSession &session,
                                 const BenchOptions &options, uint32_t runs) {
  nlohmann::ordered_json calls = nlohmann::ordered_json::array();
  for (const BenchRow &row : rows) {
    nlohmann::ordered_json call = {{"dense_fallback", row.dense}};
    if (!row.dense) {
      call["layer"] = row.layer;
      call["step"] = row.step;
    }
    call.update({{"launches", row.launches},
                 {"computed", row.computed},
                 {"flop", row.flops},
                 {"median_s", row.median},
                 {"fastest_s", row.fastest},
                 {"slowest_s", row.slowest},
                 {"tflops", row.tflops()}});
    if (!session.onHost())
      call.update({{"tiles", row.tiles}, {"reruns", row.reruns}});
    if (row.megahertz > 0)
      call.update(
          {{"sm_clock_mhz", row.megahertz}, {"power_w", row.watts}, {"throttled", row.throttled}});
    if (const double share = row.shareOfPeak(session.flopsPerClock()); share > 0)
      call["share_of_peak_at_clock"] = share;
    calls.push_back(std::move(call));
  }
  return {{"package", options.package},
          {"device", session.description()},
          {"timing_of", session.onHost() ? "host_cpu" : "gpu"},
          {"runs", runs},
          {"batch", options.batch},
          {"logit_deviation", options.deviation},
          {"calls", std::move(calls)}};
}

int runBench(const BenchOptions &options) {
  if (options.prewarm)
    return runPrewarmBench(
        {options.package, options.device, options.threads, options.batch, options.json});
  auto package = PackageReader::open(options.package);
  if (!package)
    return reportFailure(package.message());
  const Problem &p = package->manifest().problem;
  if (options.layer && *options.layer >= p.layers)
    return reportFailure(fmt::format("{}: layer {}: the package has layers 0..{}", package->path(),
                                     *options.layer, p.layers - 1));
  if (options.step && *options.step >= p.steps)
    return reportFailure(fmt::format("{}: step {}: the package has steps 0..{}", package->path(),
                                     *options.step, p.steps - 1));
  auto session = DeviceSession::open(options.package, options.device);
  if (!session)
    return reportFailure(session.message());

  const uint32_t runs = options.runs.value_or(session->onHost() ? 3 : 50);
  const uint32_t warmup = session->onHost() ? 1 : 10;
  std::vector<BenchRow> rows = chooseCalls(p, options);
  if (package->denseKernel() != kNone)
    rows.push_back({true, 0, p.steps});
  TestTensors tensors = randomTensors({options.batch, p.heads, p.tokens, p.headDim}, p.scale,
                                      options.seed, options.deviation);
  for (BenchRow &row : rows) {
    if (Status s = countWork(*package, row); !s)
      return reportFailure(s.message());
    row.flops *= options.batch;
    row.tiles *= options.batch;
    auto times = session->time(tensors, row.layer, row.step, warmup, runs);
    if (!times)
      return reportFailure(times.message());
    std::vector<double> &seconds = times->seconds;
    std::sort(seconds.begin(), seconds.end());
    size_t middle = seconds.size() / 2;
    row.median = seconds.size() % 2 ? seconds[middle] : (seconds[middle - 1] + seconds[middle]) / 2;
    row.fastest = seconds.front();
    row.slowest = seconds.back();
    row.megahertz = times->megahertz;
    row.watts = times->watts;
    row.throttled = times->throttled;
    row.reruns = times->reruns;
  }
  size_t calls = size_t(options.layer ? 1 : p.layers) * (options.step ? 1 : p.steps);
  return options.json ? printJson(benchJson(rows, *session, options, runs))
                      : printText(benchText(rows, *session, runs, calls, stdoutStyle()));
}

} // namespace

void addBench(CLI::App &app, int &exitCode) {
  auto *command = app.add_subcommand("bench", "Time the calls of a package");
  auto options = std::make_shared<BenchOptions>();
  command->add_option("package", options->package, "The package")
      ->type_name("M.calibatt")
      ->required();
  command->add_option("--device", options->device, "cuda:N or host (default: cuda:0)")
      ->type_name("NAME")
      ->check(deviceNameProblem);
  command->add_option("--layer", options->layer, "Only this layer");
  command->add_option("--step", options->step, "Only this step");
  command->add_option("--runs", options->runs, "Timed runs of each call (default: 50, host: 3)")
      ->type_name("N")
      ->check(wholeNumber(1, 1000000));
  command->add_option("--batch", options->batch, "Batch entries (default: 1)")
      ->type_name("N")
      ->check(wholeNumber(1, kMaxBatch));
  command->add_option("--seed", options->seed, "Seed of the random inputs (default: 1)");
  command
      ->add_option("--logit-deviation", options->deviation,
                   "Standard deviation of the inputs' scaled logits (default: 2)")
      ->check(CLI::Range(0.0, 1000.0));
  auto *prewarm = command->add_flag(
      "--prewarm", options->prewarm,
      "Instead of calls, time how schedules of the next step are made ready, step after step");
  command
      ->add_option("--threads", options->threads,
                   "Threads that decode schedules (default: one per CPU)")
      ->needs(prewarm);
  command->add_flag("--json", options->json, "Machine-readable output");
  command->callback([options, &exitCode] { exitCode = runBench(*options); });
}

} // namespace calibatt
