#include "compiler/CalibrationPackage.h"

#include "codegen/CalibrationEmitter.h"
#include "codegen/KernelPlan.h"
#include "codegen/SpecTuning.h"
#include "compiler/KernelBuild.h"
#include "runtime/format/AtomicFile.h"
#include "runtime/format/OutputFolder.h"
#include "runtime/format/Package.h"

#include <chrono>
#include <cmath>
#include <fmt/format.h>

namespace calibatt {

namespace {

/// Of method's defaults; a profile made with the package has its own.
constexpr double kDefaultGamma = 0.87;

Result<Problem> problemOf(const CalibrationShape &shape) {
  Problem problem;
  problem.model = shape.model;
  problem.frames = shape.frames;
  problem.height = shape.height;
  problem.width = shape.width;
  problem.maxText = shape.text;
  problem.layers = problem.steps = 1;
  problem.heads = shape.heads;
  problem.headDim = shape.headDim;
  problem.scale = shape.scale > 0 ? shape.scale : 1 / std::sqrt(double(shape.headDim));
  const double tokens = double(shape.frames) * shape.height * shape.width + shape.text;
  constexpr uint32_t kMost = kMaxRows * kBlock;
  if (!(tokens >= 1 && tokens <= kMost))
    return Error{fmt::format("a grid of {}x{}x{} and {} text tokens has {} tokens, wanted 1 to {}",
                             shape.frames, shape.height, shape.width, shape.text, tokens, kMost)};
  problem.tokens = uint32_t(tokens);
  if (shape.heads < 1 || shape.heads > kMaxHeads ||
      uint64_t(shape.heads) * problem.blocks() > UINT16_MAX)
    return Error{fmt::format("{} heads of {} blocks, wanted 1 to {} heads and at most {} blocks in "
                             "all",
                             shape.heads, problem.blocks(), kMaxHeads, UINT16_MAX)};
  return problem;
}

/// Every block of every row.
Schedule denseSchedule(const Problem &problem) {
  Schedule schedule;
  schedule.tokens = problem.tokens;
  schedule.heads = problem.heads;
  schedule.queryBlocks = schedule.keyBlocks = problem.blocks();
  schedule.rowClass.assign(size_t(problem.heads) * problem.blocks(), 0);
  schedule.classes.emplace_back();
  for (uint32_t block = problem.blocks(); block-- > 0;)
    schedule.classes.front().push_back(uint16_t(block));
  return schedule;
}

/// With the anchors to score repetition against, where frames have other rows beside them and
/// nothing but frames is there.
AttentionSpec withAnchors(AttentionSpec spec, const CalibrationShape &shape) {
  AttentionSpec anchored = spec;
  anchored.grid_height = int(shape.height);
  anchored.grid_width = int(shape.width);
  anchored.anchors = int(shape.anchors);
  return shape.text == 0 && isValid(anchorGrid(anchored), uint32_t(spec.tokens)) ? anchored : spec;
}

/// The kernel of all sites, its source the first of `sources`.
struct DenseKernel {
  std::vector<uint8_t> data;
  std::vector<uint16_t> order;
  uint64_t visits = 0;
};

DenseKernel denseKernel(const Problem &problem, const AttentionSpec &spec,
                        std::vector<KernelSource> &sources) {
  const Schedule schedule = denseSchedule(problem);
  KernelPlan plan;
  plan.spec = spec;
  plan.form = Form::Runs;
  plan.heads = problem.heads;
  plan.scheduleCapacity = scheduleCapacityClass(scheduleImageBytes(schedule, plan.form));
  sources.push_back({kernelSymbol(plan), emitKernel(plan), plan.form, uint32_t(smemBytes(spec)),
                     spec.persistent});
  DenseKernel kernel;
  kernel.data = buildScheduleImage(schedule, plan.form);
  for (size_t row = 0; row < schedule.rowClass.size(); ++row)
    kernel.order.push_back(uint16_t(row));
  kernel.visits = uint64_t(problem.heads) * problem.blocks() * problem.blocks();
  return kernel;
}

Status dumpSources(const std::string &folder, const std::vector<KernelSource> &sources) {
  auto out = OutputFolder::make(folder);
  if (!out)
    return out.takeError();
  for (const KernelSource &source : sources)
    if (Status status = out->write(source.symbol + ".cu", source.cuda); !status)
      return status;
  return {};
}

void describe(CompileReport &report, const Problem &problem, const KernelBuildResult &built) {
  report.model = problem.model;
  report.layers = problem.layers;
  report.heads = problem.heads;
  report.steps = problem.steps;
  report.tokens = problem.tokens;
  report.computed = 1;
  report.cachedCodes = built.cached;
  for (const CodeImage &image : built.images) {
    CodeSummary code;
    code.symbol = image.symbol;
    code.form = image.form;
    code.take(image);
    report.codes.push_back(std::move(code));
  }
}

} // namespace

Result<CompileReport> compileCalibration(const CalibrationShape &shape,
                                         const CompileOptions &options,
                                         const CompileEvents &events) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  auto problem = problemOf(shape);
  if (!problem)
    return problem.takeError();
  AttentionSpec spec;
  spec.head_dim = int(problem->headDim);
  spec.tokens = int(problem->tokens);
  spec.scale = float(problem->scale);
  if (Status status = applyTuning(spec, options.tuning); !status)
    return status.takeError();
  if (!isValid(spec))
    return Error{fmt::format("no kernel can have head_dim {}, {} tokens and {}", spec.head_dim,
                             spec.tokens, tuningText(spec))};
  if (auto probe = AtomicFile::create(options.output); !probe)
    return probe.takeError();
  auto build = KernelBuild::open(options);
  if (!build)
    return build.takeError();

  std::vector<KernelSource> sources;
  const DenseKernel dense = denseKernel(*problem, spec, sources);
  for (const CalibrationKernel kernel : calibrationKernels(withAnchors(spec, shape))) {
    CalibrationSource source = emitCalibration(kernel, withAnchors(spec, shape));
    // Their schedule, every block, is in the code.
    sources.push_back({source.symbol, source.cuda, Form::Full, source.dynamicSmem});
  }
  if (!options.dumpFolder.empty())
    if (Status status = dumpSources(options.dumpFolder, sources); !status)
      return status.takeError();
  auto built = build->compile(sources, options.jobs, events);
  if (!built)
    return built.takeError();

  Manifest manifest;
  manifest.problem = *problem;
  manifest.archs = {options.arch};
  manifest.repetition = {kDefaultGamma, shape.anchors};
  manifest.toolchain = fmt::format("calibatt {}, {}", CALIBATT_VERSION, build->toolchain());
  manifest.toolchainDigest = build->toolchainDigest();
  manifest.minDriver = build->minDriver();
  PackageWriter writer(std::move(manifest));
  for (const CodeImage &image : built->images)
    writer.addCode(image);
  KernelRecord record;
  record.code = 0;
  record.data = writer.addData(dense.data);
  record.order = writer.addOrder(dense.order);
  record.heads = problem->heads;
  record.visits = dense.visits;
  record.reason = "calibration";
  const uint32_t kernel = writer.addKernel(record);
  writer.setDenseKernel(kernel);
  for (uint32_t head = 0; head < problem->heads; ++head)
    writer.setRoute(0, head, 0, kernel);

  CompileReport report;
  report.output = options.output;
  report.arch = options.arch;
  report.toolchain = build->toolchain();
  report.toolFiles = build->files();
  describe(report, *problem, *built);
  report.codes.front().kernels = 1;
  KernelSummary summary;
  summary.dense = true;
  summary.heads = problem->heads;
  summary.sites = problem->heads;
  summary.launches = 1;
  summary.visits = report.visits = dense.visits;
  summary.dataBytes = dense.data.size();
  summary.reason = record.reason;
  report.kernels.push_back(std::move(summary));
  report.dataImages = 1;
  report.dataBytes = dense.data.size();
  auto written = [&](uint64_t bytes) {
    report.packageBytes = bytes;
    report.totalSeconds = std::chrono::duration<double>(Clock::now() - begin).count();
    report.compileSeconds = report.totalSeconds;
    return events.beforeOutput ? events.beforeOutput(report) : Status();
  };
  if (Status status = writer.write(options.output, written); !status)
    return status.takeError();
  return report;
}

} // namespace calibatt
