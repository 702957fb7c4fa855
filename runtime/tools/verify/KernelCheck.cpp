// Chooses kernels, runs them, and compares query tiles with the reference.
#include "runtime/tools/verify/KernelCheck.h"

#include "runtime/host/HostExecutor.h"
#include "runtime/src/KernelSchedule.h"
#include "runtime/tools/verify/DeviceSession.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <map>
#include <random>
#include <set>
#include <tuple>

namespace calibatt {
namespace {

// float32 arithmetic on float32 tensors leaves about 1e-6; bf16 outputs are
// rounded to 2^-9 = 2e-3 of their value and probabilities once more.
constexpr double kHostRms = 1e-5, kDeviceRms = 6e-3;
// Natural log, float32 on both: a unit in the last place is 4e-6 at some tens of nats, and an
// H200 came to 2e-6 at 420 to 75,600 tokens. One block dropped of 256 moves it by 4e-3.
constexpr double kLse = 1e-4;
/// Multiply-adds of a call that the host device does in about a second.
constexpr double kHostWholeCall = 4e9;
/// Multiply-adds of the reference that take about a second.
constexpr double kWholeReference = 1e9;

/// One kernel to run, and a site that it serves.
struct Candidate {
  uint32_t kernel;
  uint32_t layer, step;
};

/// The key blocks that the reference takes for one row.
class ReferenceMask {
public:
  ReferenceMask(const PackageReader &package, const ProfileReader *profile)
      : package(package), profile(profile) {}

  /// Everything is kept from here on.
  void useDense() { dense = true; }
  Status select(const Candidate &candidate) {
    dense = false;
    headsLoaded.clear();
    layer = candidate.layer;
    step = candidate.step;
    record = package.kernel(candidate.kernel);
    auto decoded = kernelSchedule(package, candidate.kernel);
    if (!decoded)
      return decoded.takeError();
    schedule = decoded.take();
    return {};
  }
  /// One query tile of the kernel: which outputs to look at, and whose queries they are.
  struct Row {
    uint32_t token, query;
  };
  /// Rows of a tile of a head (the model's); a repetitive head has fewer tiles.
  std::vector<Row> rowsOf(uint32_t head, uint32_t tile) const {
    std::vector<Row> rows;
    const uint32_t tokens = schedule.tokens, first = tile * kBlock;
    if (dense || !schedule.isRepetitive(head - record.headBase)) {
      for (uint32_t token = first; token < std::min(tokens, first + kBlock); ++token)
        rows.push_back({token, token});
      return rows;
    }
    const AnchorGrid &grid = schedule.grid;
    for (uint32_t i = first; i < std::min(packedQueries(grid, tokens), first + kBlock); ++i) {
      const PackedQuery packed = packedQuery(grid, i);
      for (uint32_t copy = 0; copy < packed.copies; ++copy) {
        const uint32_t token = packed.first + copy * grid.width;
        rows.push_back({token, anchorToken(grid, token)});
      }
    }
    return rows;
  }
  uint32_t tilesOf(uint32_t head) const {
    return dense ? schedule.queryBlocks : schedule.rowsOf(head - record.headBase);
  }
  /// `head` is the model's.
  Result<std::vector<uint16_t>> keyBlocks(uint32_t head, uint32_t row) {
    std::vector<uint16_t> blocks;
    if (dense) {
      for (uint32_t b = 0; b < package.manifest().problem.blocks(); ++b)
        blocks.push_back(uint16_t(b));
      return blocks;
    }
    if (!profile)
      return schedule.row(head - record.headBase, row);
    auto found = headsLoaded.find(head);
    if (found == headsLoaded.end()) {
      auto loaded = profile->head(layer, head);
      if (!loaded)
        return loaded.takeError();
      found = headsLoaded.emplace(head, loaded.take()).first;
    }
    const HeadProfile &masks = found->second;
    return masks.masks[masks.stepMask[step]].keptColumns(row);
  }

private:
  const PackageReader &package;
  const ProfileReader *profile;
  bool dense = false;
  uint32_t layer = 0, step = 0;
  KernelRecord record;
  Schedule schedule;
  std::map<uint32_t, HeadProfile> headsLoaded;
};

/// Distinct kernels in site order: each pair of code and schedule once.
std::vector<Candidate> distinctKernels(const PackageReader &package) {
  const Problem &problem = package.manifest().problem;
  std::vector<Candidate> result;
  std::set<std::tuple<uint32_t, uint32_t, uint32_t, uint32_t>> seen;
  std::set<uint32_t> kernels;
  for (uint32_t layer = 0; layer < problem.layers; ++layer)
    for (uint32_t step = 0; step < problem.steps; ++step)
      for (uint32_t head = 0; head < problem.heads; ++head) {
        uint32_t kernel = package.route(layer, head, step);
        if (!kernels.insert(kernel).second)
          continue;
        const KernelRecord &r = package.kernel(kernel);
        if (seen.emplace(r.code, r.data, r.order, r.heads).second)
          result.push_back({kernel, layer, step});
      }
  return result;
}

/// `count` of `from`, the first and last among them, in order.
template <typename T, typename Random>
std::vector<T> sampled(const std::vector<T> &from, size_t count, Random &random) {
  if (from.size() <= count)
    return from;
  std::vector<size_t> inner;
  for (size_t i = 1; i + 1 < from.size(); ++i)
    inner.push_back(i);
  std::shuffle(inner.begin(), inner.end(), random);
  inner.resize(count > 2 ? count - 2 : 0);
  inner.push_back(0);
  if (count > 1)
    inner.push_back(from.size() - 1);
  std::sort(inner.begin(), inner.end());
  std::vector<T> result;
  for (size_t i : inner)
    result.push_back(from[i]);
  return result;
}

std::vector<uint32_t> range(uint32_t begin, uint32_t end) {
  std::vector<uint32_t> numbers;
  for (uint32_t i = begin; i < end; ++i)
    numbers.push_back(i);
  return numbers;
}

class Checker {
public:
  Checker(const PackageReader &package, const ProfileReader *profile, DeviceSession &session,
          uint64_t seed)
      : package(package), problem(package.manifest().problem), mask(package, profile),
        session(session), random(seed) {}

  Status check(const Candidate &candidate, bool dense, const CheckReport &report,
               KernelCheck &result);

private:
  Status checkTiles(KernelCheck &result, const TestTensors &tensors, const TestOutputs &outputs,
                    uint32_t tensorHead0, const std::vector<uint32_t> &heads,
                    const std::vector<uint32_t> &rows, bool allQueries);
  /// `rows` of a head, as many as it has tiles.
  std::set<uint32_t> tilesOf(uint32_t head, const std::vector<uint32_t> &rows) const {
    std::set<uint32_t> tiles;
    for (uint32_t row : rows)
      tiles.insert(row % mask.tilesOf(head));
    return tiles;
  }
  Status checkLargeOnHost(KernelCheck &result, const std::vector<uint32_t> &heads,
                          const std::vector<uint32_t> &rows);

  const PackageReader &package;
  const Problem &problem;
  ReferenceMask mask;
  DeviceSession &session;
  std::mt19937_64 random;
};

/// Compares tiles of the given heads of the model; tensor head = head - tensorHead0.
Status Checker::checkTiles(KernelCheck &result, const TestTensors &tensors,
                           const TestOutputs &outputs, uint32_t tensorHead0,
                           const std::vector<uint32_t> &heads, const std::vector<uint32_t> &rows,
                           bool allQueries) {
  const TensorShape &shape = tensors.shape;
  for (uint32_t head : heads)
    for (uint32_t tile : tilesOf(head, rows)) {
      auto blocks = mask.keyBlocks(head, tile);
      if (!blocks)
        return blocks.takeError();
      std::vector<ReferenceMask::Row> queries = mask.rowsOf(head, tile);
      if (!allQueries)
        queries = sampled(queries, 8, random);
      for (uint32_t batch = 0; batch < shape.batch; ++batch, ++result.tiles)
        for (auto [token, query] : queries) {
          uint32_t h = head - tensorHead0;
          result.error.add(referenceRow(tensors, problem.scale, batch, h, query, *blocks),
                           &outputs.o[shape.offset(batch, h, token)],
                           outputs.lse[shape.lseOffset(batch, h, token)]);
        }
    }
  return {};
}

/// A head at a time, and only the compared tiles: a whole call would take minutes.
Status Checker::checkLargeOnHost(KernelCheck &result, const std::vector<uint32_t> &heads,
                                 const std::vector<uint32_t> &rows) {
  auto schedule = kernelSchedule(package, result.kernel);
  if (!schedule)
    return schedule.takeError();
  result.tilesOnly = true;
  result.shape = {1, 1, problem.tokens, problem.headDim, TensorOrder::HeadMajor};
  const TensorShape &shape = result.shape;
  for (uint32_t head : heads) {
    TestTensors tensors = randomTensors(shape, problem.scale, random());
    TestOutputs outputs = poisonedOutputs(shape);
    std::vector<float> q = fromBf16(tensors.q), k = fromBf16(tensors.k), v = fromBf16(tensors.v);
    HostLaunch launch;
    launch.schedule = &*schedule;
    // Tensor head 0 is this head: the subtraction wraps on purpose. A dense kernel
    // of one head serves them all.
    const KernelRecord &record = package.kernel(result.kernel);
    bool sameForAll = result.denseFallback && record.heads == 1;
    launch.headBase = sameForAll ? 0 : record.headBase - head;
    launch.headDim = problem.headDim;
    launch.scale = problem.scale;
    launch.dtype = HostDtype::F32;
    launch.q = q.data();
    launch.k = k.data();
    launch.v = v.data();
    launch.o = outputs.o.data();
    launch.lse = outputs.lse.data();
    HostStrides strides{shape.batchStride(), shape.headStride(), shape.tokenStride()};
    launch.qStrides = launch.kStrides = launch.vStrides = launch.oStrides = strides;
    launch.lseBatchStride = launch.lseHeadStride = shape.tokens;
    std::vector<HostTile> tiles;
    for (uint32_t tile : tilesOf(head, rows))
      tiles.push_back({0, 0, tile});
    if (Status s = runHostTiles(launch, tiles, 0); !s)
      return s;
    if (Status s = checkTiles(result, tensors, outputs, head, {head}, rows, false); !s)
      return s;
  }
  return {};
}

Status Checker::check(const Candidate &candidate, bool dense, const CheckReport &report,
                      KernelCheck &result) {
  const KernelRecord &record = package.kernel(candidate.kernel);
  if (Status s = mask.select(candidate); !s)
    return s;
  if (dense)
    mask.useDense();
  result.kernel = candidate.kernel;
  result.form = package.codeInfo(record.code).form;
  result.denseFallback = dense;
  result.layer = candidate.layer;
  result.step = candidate.step;
  result.headBegin = dense ? 0 : record.headBase;
  result.headCount = dense ? problem.heads : record.heads;

  double work =
      double(std::max<uint64_t>(record.visits, 1)) * kBlock * kBlock * problem.headDim * 2;
  bool small = work * 2 <= kWholeReference;
  std::vector<uint32_t> heads = range(result.headBegin, result.headBegin + result.headCount);
  std::vector<uint32_t> rows = range(0, problem.blocks());
  if (!small) {
    heads = sampled(heads, 2, random);
    rows = sampled(rows, 6, random);
  }
  if (session.onHost() && work * problem.heads / record.heads > kHostWholeCall) {
    if (Status s = checkLargeOnHost(result, heads, rows); !s)
      return s;
  } else {
    // Both orders of dimensions and batches above one have their turn.
    result.shape = {small ? 2u : 1u, problem.heads, problem.tokens, problem.headDim,
                    candidate.kernel % 2 ? TensorOrder::TokenMajor : TensorOrder::HeadMajor};
    TestTensors tensors = randomTensors(result.shape, problem.scale, random());
    auto outputs = session.attention(tensors, candidate.layer, candidate.step);
    if (!outputs)
      return outputs.takeError();
    result.unwritten = uint64_t(
        std::count_if(outputs->o.begin(), outputs->o.end(), [](float x) { return std::isnan(x); }) +
        std::count_if(outputs->lse.begin(), outputs->lse.end(),
                      [](float x) { return std::isnan(x); }));
    if (Status s = checkTiles(result, tensors, *outputs, 0, heads, rows, small); !s)
      return s;
    if (!session.onHost()) {
      // A call that does not ask for LSE runs other code on a GPU.
      auto plain = session.attention(tensors, candidate.layer, candidate.step, false);
      if (!plain)
        return plain.takeError();
      plain->lse = std::move(outputs->lse);
      result.unwritten += uint64_t(
          std::count_if(plain->o.begin(), plain->o.end(), [](float x) { return std::isnan(x); }));
      if (Status s = checkTiles(result, tensors, *plain, 0, heads, rows, small); !s)
        return s;
    }
  }
  result.passed = !result.error.sawNan && result.unwritten == 0 &&
                  result.error.relativeRms() <= report.rmsLimit &&
                  result.error.maxLseError <= report.lseLimit;
  return {};
}

} // namespace

bool CheckReport::passed() const {
  return std::all_of(kernels.begin(), kernels.end(),
                     [](const KernelCheck &check) { return check.passed; });
}

Result<CheckReport> checkKernels(const PackageReader &package, const ProfileReader *profile,
                                 const CheckOptions &options) {
  auto session = DeviceSession::open(package.path(), options.device);
  if (!session)
    return session.takeError();
  CheckReport report;
  report.device = session->description();
  report.onHost = session->onHost();
  report.rmsLimit = report.onHost ? kHostRms : kDeviceRms;
  report.lseLimit = kLse;

  std::vector<Candidate> candidates = distinctKernels(package);
  report.distinctKernels = candidates.size();
  std::mt19937_64 random(options.seed);
  if (options.maxKernels)
    candidates = sampled(candidates, options.maxKernels, random);

  const Problem &problem = package.manifest().problem;
  Checker checker(package, profile, *session, random());
  uint64_t total = candidates.size() + (package.denseKernel() != kNone);
  for (size_t i = 0; i < total; ++i) {
    if (options.progress)
      options.progress(i, total);
    bool dense = i == candidates.size();
    // A step that the package has not is how a call comes to the dense kernel.
    Candidate candidate =
        dense ? Candidate{package.denseKernel(), 0, problem.steps} : candidates[i];
    KernelCheck result;
    if (Status s = checker.check(candidate, dense, report, result); !s)
      return Error{
          fmt::format("kernel {} ({}): {}", candidate.kernel,
                      dense ? "dense fallback"
                            : fmt::format("layer {}, step {}", candidate.layer, candidate.step),
                      s.message())};
    report.kernels.push_back(std::move(result));
  }
  report.reruns = session->reruns();
  return report;
}

} // namespace calibatt
