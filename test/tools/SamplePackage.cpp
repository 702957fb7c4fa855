// The sample's masks, its profile, and a package that computes them.
#include "test/tools/SamplePackage.h"

#include "runtime/format/Hash.h"
#include "test/format/EmittedText.h"

#include <cstring>
#include <doctest/doctest.h>
#include <elf.h>
#include <fmt/format.h>
#include <map>
#include <random>

namespace calibatt::test {

Sample::Sample() : seed(std::random_device()()) {
  std::mt19937 random(seed);
  for (uint32_t site = 0; site < kLayers * kHeads * kSteps; ++site) {
    BlockMask mask(kBlocks, kBlocks);
    for (uint32_t row = 0; row < kBlocks; ++row)
      for (uint32_t col = 0; col < kBlocks; ++col)
        mask.set(row, col, row == col || random() % 2);
    masks.push_back(mask);
  }
  masks.back() = BlockMask::dense(kBlocks, kBlocks);
}

static std::vector<StepInfo> sampleSteps() {
  std::vector<StepInfo> steps;
  for (uint32_t step = 0; step < kSteps; ++step)
    steps.push_back({1000.0 - 250 * step, 1 - 0.25 * step, "transformer"});
  return steps;
}

void Sample::writeProfile(const std::string &path) const {
  ProfileHeader header;
  header.model = model;
  header.grid = {3, 7, 20};
  header.layers = kLayers;
  header.heads = kHeads;
  header.headDim = kHeadDim;
  header.steps = sampleSteps();
  header.scale = kScale;
  header.criterion = {0.8, 0.99, 16, 0.5, kGamma, kAnchors};
  header.prompts = 3;
  header.tool = "tools tests";
  auto writer = ProfileWriter::create(path, header);
  REQUIRE_MESSAGE(writer, writer.message());
  for (uint32_t layer = 0; layer < kLayers; ++layer)
    for (uint32_t head = 0; head < kHeads; ++head) {
      HeadProfile profile;
      for (uint32_t step = 0; step < kSteps; ++step) {
        const BlockMask &m = mask(layer, head, step);
        profile.masks.push_back(m);
        profile.stepMask.push_back(step);
        bool last = layer == kLayers - 1 && head == kHeads - 1 && step == kSteps - 1;
        profile.stats.push_back({0.9f, float(m.density()), last ? kRepetitive : 0.1f, 3.0f});
      }
      Status status = writer->append(profile);
      REQUIRE_MESSAGE(status, status.message());
    }
  Status status = writer->finish();
  REQUIRE_MESSAGE(status, status.message());
}

Schedule scheduleOf(const Sample &sample, uint32_t layer, uint32_t step) {
  Schedule schedule;
  schedule.tokens = kTokens;
  schedule.heads = kHeads;
  schedule.queryBlocks = schedule.keyBlocks = kBlocks;
  std::map<std::vector<uint16_t>, uint32_t> classes;
  for (uint32_t head = 0; head < kHeads; ++head)
    for (uint32_t row = 0; row < kBlocks; ++row) {
      std::vector<uint16_t> blocks = sample.mask(layer, head, step).keptColumns(row);
      std::vector<uint16_t> descending(blocks.rbegin(), blocks.rend());
      auto [found, isNew] = classes.emplace(descending, uint32_t(schedule.classes.size()));
      if (isNew)
        schedule.classes.push_back(descending);
      schedule.rowClass.push_back(found->second);
    }
  if (sample.packed && layer == kLayers - 1 && step == kSteps - 1) {
    schedule.repetitive.assign(kHeads, 0);
    schedule.repetitive.back() = 1;
    schedule.grid = {7, 20, kAnchors};
    for (uint32_t row = schedule.rowsOf(kHeads - 1); row < kBlocks; ++row)
      schedule.rowClass[(kHeads - 1) * kBlocks + row] = kAbsentRow;
  }
  return schedule;
}

/// A linked ELF64 file whose only data are 4 KiB of the schedule symbol; it defines `entry` too, of
/// no bytes, and has the constant that kernels of this scale multiply by.
static std::vector<uint8_t> emptyCubin(const std::string &entry) {
  constexpr size_t kCapacity = 4096, kData = sizeof(Elf64_Ehdr), kNames = kData + kCapacity,
                   kEntryName = 32, kConstant = 92, kNameBytes = 96, kSymbols = kNames + kNameBytes,
                   kHeaders = kSymbols + 3 * sizeof(Elf64_Sym);
  std::vector<uint8_t> file(kHeaders + 4 * sizeof(Elf64_Shdr));
  auto put = [&file](size_t at, const auto &value) {
    std::memcpy(&file[at], &value, sizeof value);
  };
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_type = ET_EXEC;
  header.e_shoff = kHeaders;
  header.e_shentsize = sizeof(Elf64_Shdr);
  header.e_shnum = 4;
  put(0, header);
  std::memcpy(&file[kNames + 1], CALIBATT_SCHEDULE_SYMBOL, sizeof CALIBATT_SCHEDULE_SYMBOL);
  REQUIRE(kEntryName + entry.size() < kConstant);
  std::memcpy(&file[kNames + kEntryName], entry.data(), entry.size());
  put(kNames + kConstant, float(kScale) * 1.4426950408889634f);
  put(kSymbols + sizeof(Elf64_Sym), Elf64_Sym{1, 0, 0, 1, 0, kCapacity});
  put(kSymbols + 2 * sizeof(Elf64_Sym), Elf64_Sym{kEntryName, 0, 0, 1, 0, 0});
  size_t at = kHeaders + sizeof(Elf64_Shdr);
  put(at, Elf64_Shdr{.sh_type = SHT_PROGBITS, .sh_offset = kData, .sh_size = kCapacity});
  at += sizeof(Elf64_Shdr);
  put(at, Elf64_Shdr{.sh_type = SHT_STRTAB, .sh_offset = kNames, .sh_size = kNameBytes});
  at += sizeof(Elf64_Shdr);
  put(at, Elf64_Shdr{.sh_type = SHT_SYMTAB,
                     .sh_offset = kSymbols,
                     .sh_size = 3 * sizeof(Elf64_Sym),
                     .sh_link = 2,
                     .sh_entsize = sizeof(Elf64_Sym)});
  return file;
}

/// Of a text without its entry; the symbol is a hash of both, as the compiler's are.
static CodeImage codeImage(Form form, const std::string &text) {
  const std::string body = "(const __grid_constant__ calibatt::LaunchParams params) {}\n";
  Sha256 hash;
  hash.update(text + body);
  CodeImage code;
  code.symbol = fmt::format("calibatt_{}_{}", formName(form), toHex(hash.finish()).substr(0, 16));
  code.form = form;
  code.arch = "sm_90a";
  code.fatbin = emptyCubin(code.symbol);
  code.cuda =
      text + "extern \"C\" __global__ void __launch_bounds__(384, 1)\n" + code.symbol + body;
  code.ptx = "// PTX of " + code.symbol + "\n";
  code.registers = 168;
  code.dynamicSmem = 100000;
  code.codeBytes = 4321;
  return code;
}

void Sample::writePackage(const std::string &path) const {
  Manifest manifest;
  Problem &p = manifest.problem;
  p.model = model;
  p.frames = 3, p.height = 7, p.width = 20;
  p.tokens = kTokens;
  p.layers = kLayers, p.heads = kHeads, p.steps = kSteps, p.headDim = kHeadDim;
  p.scale = kScale;
  manifest.steps = sampleSteps();
  manifest.repetition = {kGamma, kAnchors};
  manifest.archs = {"sm_90a"};
  manifest.supersetPasses = supersetPasses;
  manifest.profileDigest = std::string(64, 'a');
  manifest.toolchain = "none: made by a test";
  manifest.toolchainDigest = std::string(64, 'b');
  manifest.remarks = {"one remark of the compile"};
  PackageWriter writer(manifest);

  std::vector<uint16_t> order;
  for (uint16_t tile = 0; tile < kHeads * kBlocks; ++tile)
    order.push_back(tile);
  uint32_t orderIndex = writer.addOrder(order);
  const std::string spec =
      fmt::format("constexpr calibatt::AttentionSpec kSpec{{.head_dim = {}, .tokens = {}, "
                  ".scale = {:a}f}};\n",
                  kHeadDim, kTokens, float(kScale));
  uint32_t runs = writer.addCode(codeImage(Form::Runs, "// runs\n" + spec));
  uint32_t table = writer.addCode(codeImage(Form::Table, "// table\n" + spec));
  auto addKernel = [&](const Schedule &schedule, Form form, uint32_t layer, uint32_t step) {
    KernelRecord record;
    if (form == Form::Runs || form == Form::Table) {
      record.code = form == Form::Runs ? runs : table;
      record.data = writer.addData(buildScheduleImage(schedule, form));
    } else {
      record.code =
          writer.addCode(codeImage(form, emittedText(schedule, form, kMaxRunBlocks, kHeadDim)));
    }
    record.order = orderIndex;
    record.layer = layer;
    record.step = step;
    record.heads = kHeads;
    for (uint32_t c : schedule.rowClass)
      record.visits += c == kAbsentRow ? 0 : schedule.classes[c].size();
    record.predictedMicros = 12.5f;
    record.reason = "chosen by a test";
    return writer.addKernel(record);
  };
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    for (uint32_t step = 0; step < kSteps; ++step) {
      Form form = layer == 0 ? (step % 2 ? Form::Table : Form::Runs)
                             : (step % 2 ? Form::Schedule : Form::Full);
      uint32_t kernel = addKernel(scheduleOf(*this, layer, step), form, layer, step);
      for (uint32_t head = 0; head < kHeads; ++head) {
        writer.setRoute(layer, head, step, kernel);
        const uint32_t site = (layer * kHeads + head) * kSteps + step;
        const bool last = site == kLayers * kHeads * kSteps - 1;
        const BlockMask &told = measured.empty() ? mask(layer, head, step) : measured[site];
        writer.setStats(layer, head, step,
                        {0.9f, profileShare * float(told.density()), last ? kRepetitive : 0.1f});
      }
    }
    writer.setIr(layer, fmt::format("module @layer_{} {{}}\n", layer));
  }
  Schedule dense;
  dense.tokens = kTokens;
  dense.heads = kHeads;
  dense.queryBlocks = dense.keyBlocks = kBlocks;
  dense.rowClass.assign(kHeads * kBlocks, 0);
  dense.classes = {{3, 2, 1, 0}};
  writer.setDenseKernel(addKernel(dense, Form::Runs, kNone, kNone));
  Status status = writer.write(path);
  REQUIRE_MESSAGE(status, status.message());
}

} // namespace calibatt::test
