// Encoding, decoding and checking the JSON document of a profile.
#include "calib_profiles/ProfileHeader.h"

#include <fmt/format.h>

#include <cmath>

namespace calibatt {

uint64_t maskBytes(const ProfileHeader &header) {
  return uint64_t(header.blocks()) * BlockMask::rowBytes(header.blocks());
}

namespace {

Status checkRange(const std::string &where, const char *field, uint64_t got, uint64_t high) {
  if (got >= 1 && got <= high)
    return {};
  return Error{fmt::format("{}: {}: got {}, wanted 1 to {}", where, field, got, high)};
}

Status checkCriterion(const Criterion &c, const std::string &where) {
  auto share = [](double x) { return x >= 0 && x <= 1; };
  if (!share(c.a) || !share(c.c))
    return Error{
        fmt::format("{}: criterion: a = {} and c = {}, wanted shares of 0 to 1", where, c.a, c.c)};
  if (!(c.k >= 0) || !std::isfinite(c.k))
    return Error{fmt::format("{}: criterion: k = {}, wanted a number of at least 0", where, c.k)};
  if (!(c.rho > 0 && c.rho <= 1))
    return Error{fmt::format("{}: criterion: rho = {}, wanted above 0, at most 1", where, c.rho)};
  if (!std::isfinite(c.gamma))
    return Error{fmt::format("{}: criterion: gamma is not a number", where)};
  if (!(c.hysteresis >= 0 && c.hysteresis < 1))
    return Error{fmt::format("{}: criterion: hysteresis = {}, wanted at least 0, below 1", where,
                             c.hysteresis)};
  if (!(c.singletons >= 0) || !std::isfinite(c.singletons))
    return Error{fmt::format("{}: criterion: singletons = {}, wanted a number of at least 0", where,
                             c.singletons)};
  if (c.anchors < 1 || c.anchors > 64)
    return Error{fmt::format("{}: criterion: anchors = {}, wanted 1 to 64", where, c.anchors)};
  return {};
}

} // namespace

Status validateHeader(const ProfileHeader &h, const std::string &where) {
  if (h.blockSize != 128)
    return Error{fmt::format("{}: block_size: got {}, wanted 128", where, h.blockSize)};
  if (h.headDim != 64 && h.headDim != 128)
    return Error{fmt::format("{}: head_dim: got {}, wanted 64 or 128", where, h.headDim)};
  const uint64_t mostTokens = uint64_t(kMaxBlocks) * h.blockSize;
  for (auto [field, got] : {std::pair{"grid: frames", h.grid.frames},
                            {"grid: height", h.grid.height},
                            {"grid: width", h.grid.width}})
    if (Status s = checkRange(where, field, got, mostTokens); !s)
      return s;
  // Each factor is below 2^20, so the product fits.
  if (h.maxText > mostTokens || h.tokens() > mostTokens)
    return Error{fmt::format("{}: grid: {}x{}x{} and max_text {} exceed {} tokens", where,
                             h.grid.frames, h.grid.height, h.grid.width, h.maxText, mostTokens)};
  if (Status s = checkRange(where, "layers", h.layers, kMaxLayers); !s)
    return s;
  if (Status s = checkRange(where, "heads", h.heads, kMaxProfileHeads); !s)
    return s;
  if (Status s = checkRange(where, "steps", h.steps.size(), kMaxSteps); !s)
    return s;
  if (uint64_t(h.layers) * h.heads * h.steps.size() > kMaxSites)
    return Error{fmt::format("{}: layers x heads x steps: got {}, wanted at most {}", where,
                             uint64_t(h.layers) * h.heads * h.steps.size(), kMaxSites)};
  if (maskBytes(h) * h.steps.size() > kMaxHeadBytes)
    return Error{fmt::format("{}: the masks of one head take {} bytes, wanted at most {}", where,
                             maskBytes(h) * h.steps.size(), kMaxHeadBytes)};
  for (size_t i = 0; i < h.steps.size(); ++i)
    if (!std::isfinite(h.steps[i].timestep) || !std::isfinite(h.steps[i].sigma))
      return Error{fmt::format("{}: steps: entry {} is not finite", where, i)};
  if (!(h.scale > 0) || !std::isfinite(h.scale))
    return Error{fmt::format("{}: scale: got {}, wanted a number above 0", where, h.scale)};
  if (h.dtype != "bf16" && h.dtype != "f16" && h.dtype != "f32")
    return Error{fmt::format("{}: dtype: got \"{}\", wanted bf16, f16 or f32", where, h.dtype)};
  return checkCriterion(h.criterion, where);
}

Result<std::string> encodeHeader(const ProfileHeader &h, const std::string &where,
                                 const char *format) {
  if (Status s = validateHeader(h, where); !s)
    return s.takeError();
  Json json = {
      {"format", format},
      {"version", kFormatVersion},
      {"model", h.model},
      {"grid", {h.grid.frames, h.grid.height, h.grid.width}},
      {"token_order", "frame,row,column"},
      {"layers", h.layers},
      {"heads", h.heads},
      {"head_dim", h.headDim},
      {"steps", stepsToJson(h.steps)},
      {"block_size", h.blockSize},
      {"max_text", h.maxText},
      {"scale", h.scale},
      {"dtype", h.dtype},
      {"criterion",
       {{"kind", "energy"},
        {"a", h.criterion.a},
        {"c", h.criterion.c},
        {"k", h.criterion.k},
        {"rho", h.criterion.rho},
        {"gamma", h.criterion.gamma},
        {"anchors", h.criterion.anchors}}},
      {"prompts", h.prompts},
      {"prompts_hash", h.promptsHash},
      {"seed", h.seed},
      {"tool", h.tool},
  };
  if (h.criterion.hysteresis > 0 || h.criterion.singletons > 0)
    json["criterion"]["denoise"] = {{"hysteresis", h.criterion.hysteresis},
                                    {"singletons", h.criterion.singletons}};
  if (format == std::string_view(kCountsFormat)) {
    for (const char *key : {"prompts", "prompts_hash", "seed"})
      json.erase(key);
    for (const char *key : {"rho", "gamma", "denoise"})
      json["criterion"].erase(key);
  }
  return writeJson(json, where);
}

Status checkSameProblem(const ProfileHeader &wanted, const std::string &wantedName,
                        const ProfileHeader &got, const std::string &gotName) {
  auto compare = [&](const std::string &field, const auto &want, const auto &have) -> Status {
    if (want == have)
      return {};
    return Error{
        fmt::format("{}: {}: got {}, but {} has {}", gotName, field, have, wantedName, want)};
  };
  auto gridText = [](const Grid &g) {
    return fmt::format("{}x{}x{}", g.frames, g.height, g.width);
  };
  const ProfileHeader &x = wanted, &y = got;
  for (const Status &s :
       {compare("model", x.model, y.model), compare("grid", gridText(x.grid), gridText(y.grid)),
        compare("max_text", x.maxText, y.maxText), compare("head_dim", x.headDim, y.headDim),
        compare("layers", x.layers, y.layers), compare("heads", x.heads, y.heads),
        compare("steps", x.steps.size(), y.steps.size()), compare("scale", x.scale, y.scale),
        compare("dtype", x.dtype, y.dtype), compare("criterion: a", x.criterion.a, y.criterion.a),
        compare("criterion: c", x.criterion.c, y.criterion.c),
        compare("criterion: k", x.criterion.k, y.criterion.k),
        compare("criterion: anchors", x.criterion.anchors, y.criterion.anchors)})
    if (!s)
      return s;
  for (size_t i = 0; i < x.steps.size(); ++i)
    for (const Status &s :
         {compare(fmt::format("timestep of step {}", i), x.steps[i].timestep, y.steps[i].timestep),
          compare(fmt::format("sigma of step {}", i), x.steps[i].sigma, y.steps[i].sigma),
          compare(fmt::format("module of step {}", i), x.steps[i].module, y.steps[i].module)})
      if (!s)
        return s;
  return {};
}

Grid readGrid(JsonFields &fields) {
  const Json &array = fields.array("grid");
  uint32_t size[3] = {};
  bool good = array.size() == 3;
  for (size_t i = 0; good && i < 3; ++i) {
    good = array[i].is_number_unsigned() && array[i].get<uint64_t>() >= 1 &&
           array[i].get<uint64_t>() <= kMaxBlocks * 128;
    if (good)
      size[i] = array[i].get<uint32_t>();
  }
  if (!good)
    fields.fail(fmt::format("grid: got {}, wanted three sizes, each 1 to {}", array.dump(),
                            kMaxBlocks * 128));
  return {size[0], size[1], size[2]};
}

/// Refuses one that is not read, and says what to do with a profile that has no digest.
static Result<uint32_t> majorVersion(const std::string &version, const std::string &format,
                                     const std::string &where) {
  const std::string text = version.substr(0, version.find('.'));
  const bool bitmaps = format == kBitmapFormat, counts = format == kCountsFormat;
  if (text == "1" && (bitmaps || counts))
    return 1u;
  if (text == "2" && !bitmaps)
    return 2u;
  return Error{fmt::format(
      "{}: version: got \"{}\", wanted \"{}\"{}", where, version,
      bitmaps  ? "1.x"
      : counts ? "1.x or 2.x"
               : "2.x",
      text == "1" ? " (1.x had no digest; select or synthesise the profile again)" : "")};
}

Result<ProfileHeader> decodeHeader(const std::string &text, const std::string &format,
                                   const std::string &where, uint32_t *major) {
  Result<Json> json = parseJson(text, where);
  if (!json)
    return json.takeError();
  JsonFields fields(*json, where);
  std::string gotFormat = fields.string("format");
  std::string version = fields.string("version");
  if (Status s = fields.status(); !s)
    return s.takeError();
  if (gotFormat != format)
    return Error{fmt::format(
        "{}: format: got \"{}\", wanted \"{}\"{}", where, gotFormat, format,
        gotFormat == kBitmapFormat ? " (convert it with `calibatt profile import`)" : "")};
  // Counts have neither prompts nor rho: both come from elsewhere.
  const bool counts = format == kCountsFormat, optional = format == kBitmapFormat || counts;
  const Result<uint32_t> number = majorVersion(version, format, where);
  if (!number)
    return Error{number.message()};
  if (major)
    *major = *number;

  auto present = [&](const char *key) { return !optional || fields.has(key); };
  ProfileHeader h;
  h.model = fields.string("model");
  h.grid = readGrid(fields);
  h.layers = fields.u32("layers");
  h.heads = fields.u32("heads");
  h.headDim = fields.u32("head_dim");
  h.steps = readSteps(fields, kMaxSteps);
  if (present("token_order"))
    if (std::string order = fields.string("token_order"); order != "frame,row,column")
      fields.fail(fmt::format("token_order: got \"{}\", wanted \"frame,row,column\"", order));
  if (present("block_size"))
    h.blockSize = fields.u32("block_size");
  if (present("max_text"))
    h.maxText = fields.u32("max_text");
  h.scale =
      present("scale") ? fields.number("scale") : 1 / std::sqrt(double(h.headDim ? h.headDim : 1));
  if (present("dtype"))
    h.dtype = fields.string("dtype");
  if (present("criterion")) {
    JsonFields c(fields.object("criterion"), "criterion");
    if (std::string kind = c.string("kind"); kind != "energy")
      c.fail(fmt::format("kind: got \"{}\", wanted \"energy\"", kind));
    h.criterion.a = c.number("a");
    h.criterion.c = c.number("c");
    h.criterion.k = c.number("k");
    if (!counts) {
      h.criterion.rho = c.number("rho");
      h.criterion.gamma = c.number("gamma");
    }
    h.criterion.anchors = c.u32("anchors");
    if (!counts && c.has("denoise")) {
      JsonFields denoise(c.object("denoise"), "denoise");
      h.criterion.hysteresis = denoise.number("hysteresis");
      h.criterion.singletons = denoise.number("singletons");
      if (Status s = denoise.status(); !s)
        c.fail(s.message());
    }
    if (Status s = c.status(); !s)
      fields.fail(s.message());
  }
  if (present("prompts"))
    h.prompts = fields.u32("prompts");
  if (present("prompts_hash"))
    h.promptsHash = fields.string("prompts_hash");
  if (present("seed"))
    h.seed = fields.integer("seed");
  if (present("tool"))
    h.tool = fields.string("tool");
  if (Status s = fields.status(); !s)
    return s.takeError();
  if (Status s = validateHeader(h, where); !s)
    return s.takeError();
  return h;
}

Status validateMask(const BlockMask &mask, uint32_t blocks, uint32_t layer, uint32_t head,
                    uint32_t step, const std::string &where) {
  auto site = [&] {
    return fmt::format("{}: layer {}, head {}, step {}", where, layer, head, step);
  };
  if (mask.rows() != blocks || mask.cols() != blocks)
    return Error{fmt::format("{}: got a mask of {}x{} blocks, wanted {}x{}", site(), mask.rows(),
                             mask.cols(), blocks, blocks)};
  for (uint32_t r = 0; r < blocks; ++r) {
    if (blocks % 8 && mask.row(r).back() >> (blocks % 8))
      return Error{
          fmt::format("{}: row {} has bits beyond the grid's {} key blocks", site(), r, blocks)};
    if (mask.count(r) == 0)
      return Error{fmt::format("{}: row {} keeps no key block, wanted at least one", site(), r)};
  }
  return {};
}

} // namespace calibatt
