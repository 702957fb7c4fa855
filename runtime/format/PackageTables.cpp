// Manifest and checks of a package.
#include "runtime/format/PackageTables.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace calibatt {
namespace {

constexpr const char *kFormat = "calibatt.package";
/// Kernels of 3.x read a launch parameter that runtimes of before do not set; those of 2.x run as
/// they did.
constexpr uint32_t kMajor = 3, kOldestMajor = 2;
constexpr const char *kVersion = "3.0";
constexpr uint32_t kMaxSteps = 1 << 16;

/// The number before the dot, or nothing.
std::optional<uint32_t> majorVersion(const std::string &version) {
  uint32_t major = 0;
  const char *end = version.data() + version.size();
  auto [next, problem] = std::from_chars(version.data(), end, major);
  if (problem != std::errc() || next == end || *next != '.')
    return std::nullopt;
  return major;
}

bool isIdentifier(const std::string &name) {
  auto allowed = [](char c) {
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  return !name.empty() && name.size() < 256 && !(name[0] >= '0' && name[0] <= '9') &&
         std::all_of(name.begin(), name.end(), allowed);
}

Result<std::vector<SupersetPass>> readSupersetPasses(JsonFields &fields, const std::string &where) {
  constexpr const char *kKey = "superset_passes";
  std::vector<SupersetPass> passes;
  for (const Json &entry : fields.array(kKey)) {
    JsonFields pass(entry, fmt::format("{}: {}[{}]", where, kKey, passes.size()));
    passes.push_back({pass.string("name"), pass.number("bound")});
    if (Status status = pass.status(); !status)
      return status.takeError();
  }
  return passes;
}

Status checkSupersetPasses(const std::vector<SupersetPass> &passes, const std::string &where) {
  for (size_t i = 0; i < passes.size(); ++i) {
    const SupersetPass &pass = passes[i];
    auto fail = [&](const std::string &what) {
      return Error{fmt::format("{}: superset_passes[{}]: {}", where, i, what)};
    };
    if (pass.name.empty() || pass.name.size() > 100)
      return fail(fmt::format("name has {} bytes, wanted 1 to 100", pass.name.size()));
    for (size_t before = 0; before < i; ++before)
      if (passes[before].name == pass.name)
        return fail(fmt::format("name \"{}\" came before", pass.name));
    if (!std::isfinite(pass.bound))
      return fail(fmt::format("bound is {}, wanted a finite number", pass.bound));
    if (pass.name == kShareStepsPass && !(pass.bound > 0 && pass.bound <= 1))
      return fail(
          fmt::format("bound of {} is {}, wanted more than 0, at most 1", pass.name, pass.bound));
  }
  return {};
}

/// Of a manifest that tells its schedule.
Status checkSteps(const std::vector<StepInfo> &steps, uint32_t wanted, const std::string &where) {
  if (steps.size() != wanted)
    return Error{fmt::format("{}: steps has {} entries, wanted {} (problem.steps)", where,
                             steps.size(), wanted)};
  for (size_t i = 0; i < steps.size(); ++i) {
    if (!std::isfinite(steps[i].timestep) || !std::isfinite(steps[i].sigma))
      return Error{fmt::format("{}: steps[{}]: timestep is {} and sigma {}, wanted finite numbers",
                               where, i, steps[i].timestep, steps[i].sigma)};
    // The C ABI hands it out as a string that ends at the first zero.
    if (steps[i].module.empty() || steps[i].module.find('\0') != std::string::npos)
      return Error{fmt::format("{}: steps[{}]: module is empty or has a zero byte", where, i)};
  }
  return {};
}

/// Absent where the package is whole.
Result<std::optional<Shard>> readShard(JsonFields &fields, const std::string &where) {
  constexpr const char *kKey = "shard";
  if (!fields.has(kKey))
    return std::optional<Shard>();
  const std::string here = fmt::format("{}: {}", where, kKey);
  JsonFields part(fields.object(kKey), here);
  Shard shard;
  shard.index = part.u32("index");
  shard.count = part.u32("count");
  shard.options = part.string("options");
  for (const Json &entry : part.array("layers")) {
    JsonFields layer(entry, fmt::format("{}: layers[{}]", here, shard.layers.size()));
    shard.layers.push_back(layer.u32("layer"));
    shard.remarks.push_back(layer.strings("remarks"));
    if (Status status = layer.status(); !status)
      return status.takeError();
  }
  if (Status status = part.status(); !status)
    return status.takeError();
  return std::optional<Shard>(std::move(shard));
}

Status checkShard(const Shard &shard, const Problem &problem, const std::string &where) {
  auto fail = [&](const std::string &what) {
    return Error{fmt::format("{}: shard: {}", where, what)};
  };
  if (shard.index < 1 || shard.index > shard.count || shard.count > problem.layers)
    return fail(fmt::format("is {} of {}, wanted 1 and more, of as many as the {} layers at most",
                            shard.index, shard.count, problem.layers));
  if (shard.layers.empty() || shard.remarks.size() != shard.layers.size())
    return fail(fmt::format("has {} layers and remarks of {}, wanted one and more of as many",
                            shard.layers.size(), shard.remarks.size()));
  for (size_t i = 0; i < shard.layers.size(); ++i)
    if (shard.layers[i] >= problem.layers || (i && shard.layers[i] <= shard.layers[i - 1]))
      return fail(fmt::format("layers[{}] is {}, wanted layers below {} that ascend", i,
                              shard.layers[i], problem.layers));
  return {};
}

} // namespace

Json manifestToJson(const Manifest &manifest, uint32_t denseKernel) {
  const Problem &p = manifest.problem;
  Json problem = {{"model", p.model},      {"frames", p.frames}, {"height", p.height},
                  {"width", p.width},      {"tokens", p.tokens}, {"max_text", p.maxText},
                  {"layers", p.layers},    {"heads", p.heads},   {"steps", p.steps},
                  {"head_dim", p.headDim}, {"block", p.block},   {"scale", p.scale},
                  {"dtype", p.dtype}};
  Json supersets = Json::array();
  for (const SupersetPass &pass : manifest.supersetPasses)
    supersets.push_back({{"name", pass.name}, {"bound", pass.bound}});
  Json json = {{"format", kFormat},
               {"version", kVersion},
               {"problem", problem},
               {"granularity", manifest.granularity},
               {"archs", manifest.archs},
               {"repetition",
                {{"gamma", manifest.repetition.gamma}, {"anchors", manifest.repetition.anchors}}},
               {"profile_digest", manifest.profileDigest},
               {"superset_passes", supersets},
               {"toolchain", manifest.toolchain},
               {"toolchain_digest", manifest.toolchainDigest},
               {"min_driver", manifest.minDriver},
               {"remarks", manifest.remarks},
               {"dense_kernel", denseKernel}};
  if (!manifest.steps.empty())
    json["steps"] = stepsToJson(manifest.steps);
  if (const std::optional<Shard> &shard = manifest.shard) {
    Json layers = Json::array();
    for (size_t i = 0; i < shard->layers.size(); ++i)
      layers.push_back({{"layer", shard->layers[i]}, {"remarks", shard->remarks[i]}});
    json["shard"] = {{"index", shard->index},
                     {"count", shard->count},
                     {"options", shard->options},
                     {"layers", std::move(layers)}};
  }
  return json;
}

Result<ParsedManifest> manifestFromJson(const std::string &text, const std::string &path) {
  const std::string where = path + ": manifest";
  Result<Json> json = parseJson(text, where);
  if (!json)
    return json.takeError();
  JsonFields fields(*json, where);
  std::string format = fields.string("format"), version = fields.string("version");
  if (Status status = fields.status(); !status)
    return status.takeError();
  if (format != kFormat)
    return Error{
        fmt::format("{}: format is \"{}\", wanted \"{}\"", where, format.substr(0, 100), kFormat)};
  const std::optional<uint32_t> major = majorVersion(version);
  if (!major || *major < kOldestMajor || *major > kMajor)
    return Error{fmt::format("{}: version is \"{}\", but this program reads {}.x to {}.x", where,
                             version.substr(0, 100), kOldestMajor, kMajor)};
  ParsedManifest parsed;
  Manifest &m = parsed.manifest;
  Problem &p = m.problem;
  JsonFields problem(fields.object("problem"), where + ": problem");
  p.model = problem.string("model");
  p.frames = problem.u32("frames");
  p.height = problem.u32("height");
  p.width = problem.u32("width");
  p.tokens = problem.u32("tokens");
  p.maxText = problem.u32("max_text");
  p.layers = problem.u32("layers");
  p.heads = problem.u32("heads");
  p.steps = problem.u32("steps");
  p.headDim = problem.u32("head_dim");
  p.block = problem.u32("block");
  p.scale = problem.number("scale");
  p.dtype = problem.string("dtype");
  m.granularity = fields.string("granularity");
  m.archs = fields.strings("archs");
  m.profileDigest = fields.string("profile_digest");
  Result<std::vector<SupersetPass>> supersets = readSupersetPasses(fields, where);
  if (fields.has("steps"))
    m.steps = readSteps(fields, kMaxSteps);
  m.toolchain = fields.string("toolchain");
  m.toolchainDigest = fields.string("toolchain_digest");
  m.minDriver = fields.u32("min_driver");
  m.remarks = fields.strings("remarks");
  parsed.denseKernel = fields.u32("dense_kernel");
  Result<std::optional<Shard>> shard = readShard(fields, where);
  JsonFields rule(fields.object("repetition"), where + ": repetition");
  m.repetition = {rule.number("gamma"), rule.u32("anchors")};
  if (Status status = fields.status(); !status)
    return status.takeError();
  if (Status status = rule.status(); !status)
    return status.takeError();
  if (Status status = problem.status(); !status)
    return status.takeError();
  if (!supersets)
    return supersets.takeError();
  m.supersetPasses = supersets.take();
  if (!shard)
    return shard.takeError();
  m.shard = shard.take();
  if (Status status = checkManifest(m, where); !status)
    return status.takeError();
  return parsed;
}

Status checkManifest(const Manifest &manifest, const std::string &where) {
  const Problem &p = manifest.problem;
  auto inside = [&](const char *field, uint64_t value, uint64_t low, uint64_t high) -> Status {
    if (value >= low && value <= high)
      return {};
    return Error{
        fmt::format("{}: problem.{} is {}, wanted {} to {}", where, field, value, low, high)};
  };
  struct Bound {
    const char *field;
    uint64_t value, low, high;
  };
  for (const Bound &bound : std::initializer_list<Bound>{{"tokens", p.tokens, 1, kMaxRows * kBlock},
                                                         {"max_text", p.maxText, 0, p.tokens},
                                                         {"layers", p.layers, 1, 1 << 16},
                                                         {"heads", p.heads, 1, kMaxHeads},
                                                         {"steps", p.steps, 1, kMaxSteps},
                                                         {"head_dim", p.headDim, 1, 1024},
                                                         {"block", p.block, kBlock, kBlock}})
    if (Status status = inside(bound.field, bound.value, bound.low, bound.high); !status)
      return status;
  if (Status status =
          inside("layers * heads * steps", uint64_t(p.layers) * p.heads * p.steps, 1, kMaxSites);
      !status)
    return status;
  // In floating point, since the product of three 32-bit numbers may not fit.
  if (double(p.frames) * p.height * p.width + p.maxText != double(p.tokens))
    return Error{fmt::format("{}: problem.tokens is {}, but a grid of {}x{}x{} and {} text tokens "
                             "does not have that many",
                             where, p.tokens, p.frames, p.height, p.width, p.maxText)};
  if (!(p.scale > 0 && p.scale < 1e6))
    return Error{fmt::format("{}: problem.scale is {}, wanted more than 0", where, p.scale)};
  if (p.dtype.empty())
    return Error{where + ": problem.dtype is empty"};
  if (manifest.granularity != "step" && manifest.granularity != "head")
    return Error{fmt::format("{}: granularity is \"{}\", wanted \"step\" or \"head\"", where,
                             manifest.granularity.substr(0, 100))};
  const RepetitionRule &rule = manifest.repetition;
  if (!std::isfinite(rule.gamma))
    return Error{fmt::format("{}: repetition.gamma is {}, wanted a number", where, rule.gamma)};
  if (rule.anchors < 1 || rule.anchors > 64)
    return Error{fmt::format("{}: repetition.anchors is {}, wanted 1 to 64", where, rule.anchors)};
  if (manifest.archs.empty())
    return Error{where + ": archs is empty"};
  if (!manifest.steps.empty())
    if (Status status = checkSteps(manifest.steps, p.steps, where); !status)
      return status;
  if (manifest.shard)
    if (Status status = checkShard(*manifest.shard, p, where); !status)
      return status;
  return checkSupersetPasses(manifest.supersetPasses, where);
}

Status checkCode(const CodeImage &code, uint32_t index, const std::string &where) {
  if (!isIdentifier(code.symbol))
    return Error{fmt::format("{}: code {}: symbol \"{}\" is not an identifier", where, index,
                             code.symbol.substr(0, 100))};
  if (unsigned(code.form) > unsigned(Form::Table))
    return Error{fmt::format("{}: code {}: form is {}, wanted 0 to {}", where, index,
                             unsigned(code.form), unsigned(Form::Table))};
  if (code.arch.empty())
    return Error{fmt::format("{}: code {}: arch is empty", where, index)};
  return {};
}

Status checkKernel(const KernelRecord &kernel, uint32_t index, const std::vector<CodeImage> &codes,
                   const PackageCounts &counts, const Problem &problem, const std::string &where) {
  auto fail = [&](const std::string &what) {
    return Error{fmt::format("{}: kernel {}: {}", where, index, what)};
  };
  if (kernel.code >= counts.codes)
    return fail(fmt::format("code is {}, but there are {}", kernel.code, counts.codes));
  Form form = codes[kernel.code].form;
  bool needsData = form == Form::Runs || form == Form::Table;
  if (!needsData && kernel.data != kNone)
    return fail(fmt::format("has data image {}, but its schedule is in the code", kernel.data));
  if (needsData && kernel.data >= counts.datas)
    return fail(fmt::format("data is {}, but there are {}", kernel.data, counts.datas));
  if (kernel.orderRule != TileOrder::Stored && kernel.orderRule != TileOrder::Heads &&
      kernel.orderRule != TileOrder::Longest)
    return fail(fmt::format("order rule is {}, wanted 0 to {}", uint32_t(kernel.orderRule),
                            uint32_t(TileOrder::Longest)));
  if (kernel.orderRule != TileOrder::Stored && (!needsData || kernel.order != kNone))
    return fail("has a rule for its order, but also an order, or no data image to apply it to");
  if (kernel.orderRule == TileOrder::Stored && kernel.order >= counts.orders)
    return fail(fmt::format("order is {}, but there are {}", kernel.order, counts.orders));
  if ((kernel.layer == kNone) != (kernel.step == kNone))
    return fail("has a layer or a step, wanted both or (dense fallback) none");
  if (kernel.layer != kNone && (kernel.layer >= problem.layers || kernel.step >= problem.steps))
    return fail(fmt::format("is of layer {}, step {}, but there are {} layers and {} steps",
                            kernel.layer, kernel.step, problem.layers, problem.steps));
  if (kernel.heads == 0 || kernel.heads > problem.heads ||
      kernel.headBase > problem.heads - kernel.heads)
    return fail(fmt::format("covers {} heads from {} on, but there are {}", kernel.heads,
                            kernel.headBase, problem.heads));
  uint64_t rows = uint64_t(kernel.heads) * problem.blocks();
  if (rows > kMaxKernelRows)
    return fail(fmt::format("has {} rows, at most {} are allowed", rows, kMaxKernelRows));
  if (kernel.visits < rows || kernel.visits > rows * problem.blocks())
    return fail(
        fmt::format("visits is {}, wanted {} to {}", kernel.visits, rows, rows * problem.blocks()));
  if (!(kernel.predictedMicros >= 0 && kernel.predictedMicros < 1e12f))
    return fail(fmt::format("predicted time is {} us", kernel.predictedMicros));
  return {};
}

Status checkRoutes(std::span<const uint32_t> routes, std::span<const KernelRecord> kernels,
                   uint32_t denseKernel, const Manifest &manifest, const std::string &where) {
  const Problem &problem = manifest.problem;
  const std::optional<Shard> &shard = manifest.shard;
  if (denseKernel >= kernels.size())
    return Error{denseKernel == kNone
                     ? fmt::format("{}: has no dense kernel", where)
                     : fmt::format("{}: dense_kernel is {}, but there are {} kernels", where,
                                   denseKernel, kernels.size())};
  size_t site = 0;
  for (uint32_t layer = 0; layer < problem.layers; ++layer) {
    const bool ours =
        !shard || std::binary_search(shard->layers.begin(), shard->layers.end(), layer);
    for (uint32_t head = 0; head < problem.heads; ++head)
      for (uint32_t step = 0; step < problem.steps; ++step) {
        uint32_t route = routes[site++];
        auto fail = [&](const std::string &what) {
          return Error{fmt::format("{}: route: layer {}, head {}, step {}: {}", where, layer, head,
                                   step, what)};
        };
        if (route == kNone && ours)
          return fail("has no kernel");
        if (!ours && route != kNone)
          return fail("has a kernel, but is not of this shard");
        if (!ours)
          continue;
        if (route >= kernels.size())
          return fail(fmt::format("kernel is {}, but there are {}", route, kernels.size()));
        const KernelRecord &kernel = kernels[route];
        // The dense fallback serves any head.
        if (kernel.layer != kNone &&
            (head < kernel.headBase || head - kernel.headBase >= kernel.heads))
          return fail(fmt::format("kernel {} covers heads {} to {}", route, kernel.headBase,
                                  kernel.headBase + kernel.heads - 1));
      }
  }
  return {};
}

Status checkOrder(std::span<const uint16_t> order, uint64_t rows, const std::string &where) {
  if (order.size() != rows)
    return Error{fmt::format("{}: has {} rows, wanted {}", where, order.size(), rows)};
  std::vector<bool> seen(rows);
  for (size_t i = 0; i < order.size(); ++i) {
    if (order[i] >= rows)
      return Error{
          fmt::format("{}: entry {} is row {}, but there are {}", where, i, order[i], rows)};
    if (seen[order[i]])
      return Error{fmt::format("{}: entry {} is row {}, which came before", where, i, order[i])};
    seen[order[i]] = true;
  }
  return {};
}

} // namespace calibatt
