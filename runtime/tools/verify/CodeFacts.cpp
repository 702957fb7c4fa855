#include "runtime/tools/verify/CodeFacts.h"

#include "runtime/format/CubinPatch.h"
#include "runtime/format/Hash.h"
#include "runtime/format/ScheduleImage.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <set>
#include <string_view>

namespace calibatt {

namespace {

constexpr std::string_view kEntry = "extern \"C\" __global__ ";

/// What in the text is not the problem's, or nothing.
std::string wrongSpec(const std::string &cuda, const Manifest &manifest) {
  const Problem &p = manifest.problem;
  const std::optional<EmittedSpec> spec = emittedSpec(cuda);
  if (!spec)
    return "has no kSpec with head_dim, tokens and scale";
  if (spec->headDim != p.headDim)
    return fmt::format("was compiled for head_dim {}, but the manifest says {}", spec->headDim,
                       p.headDim);
  if (spec->tokens != p.tokens)
    return fmt::format("was compiled for {} tokens, but the manifest says {}", spec->tokens,
                       p.tokens);
  if (spec->scale != float(p.scale))
    return fmt::format("was compiled for scale {}, but the manifest says {}", spec->scale, p.scale);
  const AnchorGrid wanted{p.height, p.width, manifest.repetition.anchors};
  if (spec->grid != AnchorGrid{} && spec->grid != wanted)
    return fmt::format("was compiled for {} anchors in frames of {} x {}, but the manifest says {} "
                       "in {} x {}",
                       spec->grid.anchors, spec->grid.height, spec->grid.width, wanted.anchors,
                       wanted.height, wanted.width);
  return "";
}

/// The symbol ends in a hash of the text without the line that names it.
std::string wrongSymbol(const std::string &cuda, const std::string &symbol) {
  const size_t entry = cuda.find(kEntry);
  const size_t name = entry == cuda.npos ? cuda.npos : cuda.find('\n', entry) + 1;
  if (name == cuda.npos || name == 0 || cuda.compare(name, symbol.size() + 1, symbol + "(") != 0)
    return fmt::format("its text does not define {}", symbol);
  Sha256 hash;
  hash.update(cuda.substr(0, entry));
  hash.update(cuda.substr(name + symbol.size()));
  const std::string wanted = toHex(hash.finish()).substr(0, 16);
  if (!symbol.ends_with("_" + wanted))
    return fmt::format("its text has the hash {}, which its symbol {} does not", wanted, symbol);
  return "";
}

/// The kernels multiply logits by scale x log2(e), an immediate or a constant of the image.
bool hasFloat(std::span<const uint8_t> bytes, float value) {
  const uint32_t wanted = std::bit_cast<uint32_t>(value);
  for (size_t at = 0; at + sizeof wanted <= bytes.size(); at += sizeof wanted) {
    uint32_t word;
    std::memcpy(&word, bytes.data() + at, sizeof word);
    if (word == wanted)
      return true;
  }
  return false;
}

std::string wrongCubin(std::span<const uint8_t> fatbin, const std::string &symbol, float scale) {
  const auto cubin = findCubin(fatbin);
  if (!cubin)
    return cubin.message();
  const Result<bool> defines = hasSymbol(*cubin, symbol);
  if (!defines)
    return defines.message();
  if (!*defines)
    return fmt::format("its machine code does not define {}", symbol);
  if (!hasFloat(*cubin, scale * 1.4426950408889634f))
    return fmt::format("its machine code does not use the scale {} (x log2(e))", scale);
  return "";
}

} // namespace

Result<CodeFacts> checkCodeFacts(const PackageReader &package) {
  std::set<uint32_t> codes;
  for (uint32_t kernel = 0; kernel < package.kernelCount(); ++kernel)
    codes.insert(package.kernel(kernel).code);
  CodeFacts facts;
  const Manifest &manifest = package.manifest();
  for (uint32_t code : codes) {
    const std::string &symbol = package.codeInfo(code).symbol;
    auto cuda = package.cuda(code);
    if (!cuda)
      return cuda.takeError();
    auto fatbin = package.fatbin(code);
    if (!fatbin)
      return fatbin.takeError();
    std::string wrong = wrongSpec(*cuda, manifest);
    if (wrong.empty())
      wrong = wrongSymbol(*cuda, symbol);
    if (wrong.empty())
      wrong = wrongCubin(*fatbin, symbol, float(manifest.problem.scale));
    if (!wrong.empty())
      facts.faults.push_back(fmt::format("{}: code {}: {}", package.path(), code, wrong));
    ++facts.codes;
  }
  return facts;
}

} // namespace calibatt
