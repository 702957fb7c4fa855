// Prints a KernelPlan as a short CUDA C++ translation unit over the device
// library. The text grammar the schedule is read back from is in README.md.
#include "codegen/KernelPlan.h"

#include "codegen/SpecText.h"
#include "codegen/SpecTuning.h"
#include "runtime/format/Hash.h"

#include <fmt/format.h>

namespace calibatt {

namespace {

bool isUnrolled(const KernelPlan &plan) {
  return plan.form == Form::Full || plan.form == Form::Schedule;
}

/// Whether the first visit of a row is the masked tail block of the keys.
bool startsWithTail(const KernelPlan &plan, const std::vector<uint16_t> &blocks) {
  return plan.spec.tokens % kTileKeys != 0 && blocks.front() == blockCount(plan.spec) - 1;
}

std::string rowClassTable(const KernelPlan &plan) {
  std::string out = fmt::format("constexpr unsigned kHeads = {};\n"
                                "// Row class of every row, a head after the other.\n"
                                "__device__ const unsigned short kRowClass[] = {{\n",
                                plan.heads);
  size_t rows = plan.rowClass.size() / plan.heads;
  for (size_t head = 0; head < plan.heads; ++head) {
    for (size_t row = 0; row < rows; ++row)
      out += fmt::format("{}{},", row % 20 == 0 ? (row ? "\n    " : "    ") : " ",
                         plan.rowClass[head * rows + row]);
    out += "\n";
  }
  return out + "};\n"
               "static_assert(sizeof(kRowClass) == 2 * kHeads * calibatt::blockCount(kSpec));\n";
}

/// The loads of one row class, straight-line with immediate coordinates
/// (`full`; by value, so that the state of the loads stays in registers).
void emitLoads(std::string &out, const KernelPlan &plan, size_t index) {
  out += fmt::format("__device__ __forceinline__ void produce_{}(calibatt::Producer<kSpec> p) {{\n",
                     index);
  const std::vector<uint16_t> &blocks = plan.classes[index];
  for (size_t i = 0; i < blocks.size(); ++i)
    out += fmt::format("  p.visit<{}, {}>();\n", i, blocks[i]);
  out += "  p.finish();\n}\n";
}

/// The runs of one row class as immediates of the one loop that loads
/// (`schedule`). Loads of their own for every run would take the compiler minutes.
void emitRuns(std::string &out, const KernelPlan &plan, size_t index) {
  out += fmt::format("__device__ __forceinline__ unsigned produce_{}(calibatt::RunLookup p) {{\n",
                     index);
  const std::vector<uint16_t> &blocks = plan.classes[index];
  for (size_t begin = 0, end; begin < blocks.size(); begin = end) {
    for (end = begin + 1;
         end < blocks.size() && blocks[end] + 1 == blocks[end - 1] && end - begin < kMaxRunBlocks;)
      ++end;
    out += fmt::format("  p.run<{}, {}, {}>();\n", begin, blocks[end - 1], end - begin);
  }
  out += fmt::format("  return p.end<{}>();\n}}\n", blocks.size());
}

/// The steps of one row class, straight-line (`full` only).
void emitConsumer(std::string &out, const KernelPlan &plan, size_t index) {
  const std::vector<uint16_t> &blocks = plan.classes[index];
  out += fmt::format("__device__ __forceinline__ void consume_{}(calibatt::Consumer<kSpec> &c) {{\n"
                     "  c.first<{}>();\n",
                     index, startsWithTail(plan, blocks));
  for (size_t i = 1; i < blocks.size(); ++i)
    out += "  c.step();\n";
  out += "  c.last();\n}\n";
}

/// `switch (row_class)` with one line a class.
template <typename Line> std::string switchOverClasses(const KernelPlan &plan, Line line) {
  std::string out = "    switch (rowClass & ~calibatt::kEmittedPackedRow) {\n";
  for (size_t i = 0; i < plan.classes.size(); ++i)
    out += fmt::format("    case {}: {}\n", i, line(i));
  return out + "    }\n";
}

/// What every program begins with.
constexpr std::string_view kProgramHead = "struct Program {\n"
                                          "  unsigned rowClass;\n"
                                          "  __device__ __forceinline__ bool exists() const {\n"
                                          "    return rowClass != calibatt::kEmittedAbsentRow;\n"
                                          "  }\n"
                                          "  __device__ __forceinline__ bool isPacked() const {\n"
                                          "    return rowClass & calibatt::kEmittedPackedRow;\n"
                                          "  }\n";

std::string fullProgram(const KernelPlan &plan) {
  std::string out;
  for (size_t i = 0; i < plan.classes.size(); ++i) {
    emitLoads(out, plan, i);
    emitConsumer(out, plan, i);
  }
  out += kProgramHead;
  out += "  __device__ __forceinline__ void produce(calibatt::Producer<kSpec> &p) const {\n";
  out += switchOverClasses(plan, [](size_t i) { return fmt::format("return produce_{}(p);", i); });
  out += "  }\n"
         "  __device__ __forceinline__ void consume(calibatt::Consumer<kSpec> &c) const {\n";
  out += switchOverClasses(plan, [](size_t i) { return fmt::format("return consume_{}(c);", i); });
  return out + "  }\n};\n";
}

std::string scheduleProgram(const KernelPlan &plan) {
  std::string out;
  for (size_t i = 0; i < plan.classes.size(); ++i)
    emitRuns(out, plan, i);
  out += kProgramHead;
  out += "  __device__ __forceinline__ unsigned runAt(unsigned visit) const {\n";
  out += switchOverClasses(
      plan, [](size_t i) { return fmt::format("return produce_{}({{visit}});", i); });
  out += "    return 0;\n"
         "  }\n"
         "  __device__ __forceinline__ void produce(calibatt::Producer<kSpec> &p) const {\n"
         "    calibatt::produceRuns(p, [&](unsigned visit) { return runAt(visit); });\n"
         "  }\n"
         "  __device__ __forceinline__ void consume(calibatt::Consumer<kSpec> &c) const {\n"
         "    unsigned visits = 0;\n"
         "    bool tail = false;\n";
  out += switchOverClasses(plan, [&](size_t i) {
    return fmt::format("visits = {}; tail = {}; break;", plan.classes[i].size(),
                       startsWithTail(plan, plan.classes[i]));
  });
  return out + "    c.run(visits, tail);\n"
               "  }\n};\n";
}

std::string sha256Hex(const std::string &text) {
  Sha256 hash;
  hash.update(text);
  return toHex(hash.finish());
}

/// Everything after the entry's name; the symbol is a hash of it.
struct Parts {
  std::string before, body;
};

Parts emitParts(const KernelPlan &plan) {
  Parts parts;
  parts.before = fmt::format("#include \"kernels/attention_sm90.cuh\"\n\n"
                             "namespace {{\n"
                             "constexpr calibatt::AttentionSpec kSpec{};\n",
                             specText(plan.spec));
  std::string make;
  if (isUnrolled(plan)) {
    parts.before += rowClassTable(plan);
    parts.before += plan.form == Form::Full ? fullProgram(plan) : scheduleProgram(plan);
    make = fmt::format("Program{{__shfl_sync(~0u, "
                       "(unsigned)kRowClass[head * {} + row], 0)}}",
                       blockCount(plan.spec));
  } else {
    parts.before += fmt::format("using Program = calibatt::DataProgram<kSpec, "
                                "calibatt::Form::{}>;\n",
                                plan.form == Form::Runs ? "Runs" : "Table");
    make =
        "Program(params.schedule ? params.schedule\n"
        "                                   : (const unsigned char *)calibatt_schedule, row, head)";
  }
  parts.before += "} // namespace\n\n";
  if (!isUnrolled(plan))
    parts.before += fmt::format(
        "// Not const: constants would be folded into the code. Not zero: zeros have no bytes\n"
        "// in the image to write a schedule to.\n"
        "extern \"C\" __device__ __align__(16) unsigned calibatt_schedule[{}] = "
        "{{0xCA11BA77u}};\n\n",
        plan.scheduleCapacity / 4);
  parts.body = fmt::format("(const __grid_constant__ calibatt::LaunchParams params) {{\n"
                           "  calibatt::attentionSm90<kSpec>(params, [&](unsigned row, unsigned "
                           "head) {{\n"
                           "    return {};\n"
                           "  }});\n"
                           "}}\n",
                           make);
  return parts;
}

} // namespace

std::string specText(const AttentionSpec &spec) {
  // Hexadecimal floats are exact and the same everywhere.
  std::string grid;
  if (spec.anchors)
    grid = fmt::format(".grid_height = {}, .grid_width = {}, .anchors = {}, ", spec.grid_height,
                       spec.grid_width, spec.anchors);
  return fmt::format("{{.head_dim = {}, .tokens = {}, .scale = {:a}f, {}{}}}", spec.head_dim,
                     spec.tokens, spec.scale, grid, tuningText(spec));
}

std::vector<uint16_t> emittedRowClasses(const Schedule &schedule) {
  std::vector<uint16_t> classes;
  classes.reserve(schedule.rowClass.size());
  for (size_t row = 0; row < schedule.rowClass.size(); ++row) {
    uint32_t rowClass = schedule.rowClass[row];
    bool packed = schedule.isRepetitive(uint32_t(row / schedule.queryBlocks));
    classes.push_back(rowClass == kAbsentRow
                          ? uint16_t(kEmittedAbsentRow)
                          : uint16_t(rowClass | (packed ? kEmittedPackedRow : 0)));
  }
  return classes;
}

constexpr const char *kEntry = "extern \"C\" __global__ void __launch_bounds__(384, 1)\n";

static std::string symbolOf(Form form, const std::string &before, const std::string &body) {
  return fmt::format("calibatt_{}_{}", formName(form), sha256Hex(before + body).substr(0, 16));
}

std::string kernelSymbol(const KernelPlan &plan) {
  Parts parts = emitParts(plan);
  return symbolOf(plan.form, parts.before, parts.body);
}

std::string emitKernel(const KernelPlan &plan) {
  Parts parts = emitParts(plan);
  return parts.before + kEntry + symbolOf(plan.form, parts.before, parts.body) + parts.body;
}

bool isKernelText(const std::string &text, const std::string &symbol, Form form) {
  const std::string entry = kEntry + symbol;
  const size_t at = text.find(entry);
  return at != std::string::npos &&
         symbolOf(form, text.substr(0, at), text.substr(at + entry.size())) == symbol;
}

} // namespace calibatt
