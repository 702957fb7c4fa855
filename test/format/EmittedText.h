// CUDA text of an unrolled kernel, as far as its schedule goes: the grammar of
// codegen/README.md, written independently of the emitter.
#pragma once

#include "runtime/format/ScheduleImage.h"

#include <fmt/format.h>

#include <string>

namespace calibatt::test {

/// The fields of kSpec that say where the repetitive heads have their anchors.
inline std::string emittedGrid(const AnchorGrid &grid) {
  return grid == AnchorGrid{} ? ""
                              : fmt::format(", .grid_height = {}, .grid_width = {}, .anchors = {}",
                                            grid.height, grid.width, grid.anchors);
}

/// Visits one by one (Full), or runs of at most `longest` blocks (Schedule).
inline std::string emittedText(const Schedule &schedule, Form form, size_t longest = kMaxRunBlocks,
                               int headDim = 64) {
  std::string text =
      fmt::format("#include \"kernels/attention_sm90.cuh\"\nnamespace {{\n"
                  "constexpr calibatt::AttentionSpec kSpec{{.head_dim = {}, "
                  ".tokens = {}, .scale = 0x1p-3f{}}};\n"
                  "constexpr unsigned kHeads = {};\n"
                  "__device__ const unsigned short kRowClass[] = {{\n",
                  headDim, schedule.tokens, emittedGrid(schedule.grid), schedule.heads);
  for (size_t row = 0; row < schedule.rowClass.size(); ++row) {
    const bool packed = schedule.isRepetitive(uint32_t(row / schedule.queryBlocks));
    const uint32_t rowClass = schedule.rowClass[row];
    text += fmt::format("{}{},{}", row % schedule.queryBlocks ? " " : "    ",
                        rowClass == kAbsentRow ? 65535 : rowClass + (packed ? 32768 : 0),
                        (row + 1) % schedule.queryBlocks ? "" : "\n");
  }
  text += "};\n";
  for (size_t i = 0; i < schedule.classes.size(); ++i) {
    const std::vector<uint16_t> &row = schedule.classes[i];
    if (form == Form::Full) {
      text += fmt::format(
          "__device__ __forceinline__ void produce_{}(calibatt::Producer<kSpec> p) {{\n", i);
      for (size_t visit = 0; visit < row.size(); ++visit)
        text += fmt::format("  p.visit<{}, {}>();\n", visit, row[visit]);
      text += "  p.finish();\n}\n";
      continue;
    }
    text += fmt::format(
        "__device__ __forceinline__ unsigned produce_{}(calibatt::RunLookup p) {{\n", i);
    for (size_t visit = 0, blocks; visit < row.size(); visit += blocks) {
      for (blocks = 1; blocks < longest && visit + blocks < row.size() &&
                       row[visit + blocks] + blocks == row[visit];)
        ++blocks;
      text += fmt::format("  p.run<{}, {}, {}>();\n", visit, row[visit] + 1 - blocks, blocks);
    }
    text += fmt::format("  return p.end<{}>();\n}}\n", row.size());
  }
  // Uses of the producers, which are not producers.
  text += "struct Program {\n    case 0: return produce_0(p);\n    case 0: return "
          "produce_0({visit});\n";
  return text + "};\n} // namespace\n";
}

} // namespace calibatt::test
