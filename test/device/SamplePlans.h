// The kernels of the emulation test: what EmitSamples prints and the test runs.
#pragma once

#include "codegen/KernelPlan.h"
#include "runtime/format/AnchorLayout.h"
#include "runtime/format/ScheduleImage.h"

#include <cmath>
#include <random>
#include <string>
#include <vector>

namespace calibatt::test {

struct SamplePlan {
  std::string name;
  KernelPlan plan;
  Schedule schedule;
};

/// A random schedule: every row keeps at least one block, visited descending.
inline SamplePlan makeSample(const std::string &name, Form form, int headDim, int tokens,
                             uint32_t heads, double density, unsigned seed) {
  SamplePlan sample{name, {}, {}};
  AttentionSpec &spec = sample.plan.spec;
  spec = withoutLists(spec);
  spec.head_dim = headDim;
  spec.tokens = tokens;
  spec.scale = 1.0f / std::sqrt(float(headDim));
  spec.stages = 1 + int(seed % 3);
  if (smemBytes(spec) > kMaxSmemBytes)
    spec.stages = 2;
  spec.ping_pong = seed % 2 == 0;
  spec.lazy_rescale = seed % 5 != 0;
  sample.plan.form = form;
  sample.plan.heads = heads;
  Schedule &schedule = sample.schedule;
  schedule.tokens = uint32_t(tokens);
  schedule.heads = heads;
  schedule.queryBlocks = schedule.keyBlocks = uint32_t(blockCount(spec));
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform;
  for (uint32_t row = 0; row < heads * schedule.queryBlocks; ++row) {
    std::vector<uint16_t> blocks;
    for (uint32_t block = schedule.keyBlocks; block-- > 0;)
      if (uniform(random) < density)
        blocks.push_back(uint16_t(block));
    if (blocks.empty())
      blocks.push_back(uint16_t(row % schedule.queryBlocks));
    schedule.rowClass.push_back(row);
    schedule.classes.push_back(blocks);
  }
  if (form == Form::Full || form == Form::Schedule) {
    sample.plan.classes = schedule.classes;
    for (uint32_t c : schedule.rowClass)
      sample.plan.rowClass.push_back(uint16_t(c));
  }
  return sample;
}

/// The same with the last head repetitive: it computes anchor rows of `grid` only.
inline SamplePlan withAnchors(SamplePlan sample, const AnchorGrid &grid) {
  Schedule &schedule = sample.schedule;
  std::vector<uint16_t> dense;
  for (uint32_t block = schedule.keyBlocks; block-- > 0;)
    dense.push_back(uint16_t(block));
  const uint32_t head = schedule.heads - 1;
  schedule.classes.push_back(dense);
  schedule.repetitive.assign(schedule.heads, 0);
  schedule.repetitive[head] = 1;
  schedule.grid = grid;
  for (uint32_t q = 0; q < schedule.queryBlocks; ++q)
    schedule.rowClass[head * schedule.queryBlocks + q] =
        q < packedTiles(grid, schedule.tokens) ? uint32_t(schedule.classes.size() - 1) : kAbsentRow;
  // Classes of the rows that were replaced are gone.
  schedule = canonicalSchedule(schedule);
  AttentionSpec &spec = sample.plan.spec;
  spec.grid_height = int(grid.height);
  spec.grid_width = int(grid.width);
  spec.anchors = int(grid.anchors);
  if (!sample.plan.classes.empty()) {
    sample.plan.classes = schedule.classes;
    sample.plan.rowClass = emittedRowClasses(schedule);
  }
  return sample;
}

/// The same with sums of weights by the tensor cores.
inline SamplePlan withMmaSums(SamplePlan sample) {
  sample.plan.spec.mma_sums = true;
  if (smemBytes(sample.plan.spec) > kMaxSmemBytes)
    sample.plan.spec.stages = 2;
  sample.name += ", sums by the tensor cores";
  return sample;
}

/// The same in CTAs that walk lists of tiles, with the maximum frozen where `frozen`.
inline SamplePlan asList(SamplePlan sample, bool frozen) {
  AttentionSpec &spec = sample.plan.spec;
  spec.persistent = true;
  spec.frozen_max = frozen;
  if (smemBytes(spec) > kMaxSmemBytes)
    spec.stages = 2;
  sample.name += frozen ? ", in lists, maximum frozen" : ", in lists";
  return sample;
}

/// Lengths that are no multiple of a tile, rows of one visit, all four forms.
inline std::vector<SamplePlan> samplePlans() {
  return {
      makeSample("runs, head_dim 64", Form::Runs, 64, 420, 2, 0.6, 1),
      makeSample("runs, head_dim 128", Form::Runs, 128, 300, 1, 1.0, 2),
      makeSample("runs, tail of three tokens", Form::Runs, 64, 131, 1, 0.7, 3),
      makeSample("runs, no tail", Form::Runs, 128, 256, 2, 0.7, 4),
      makeSample("runs, rescale at every growth", Form::Runs, 64, 700, 1, 0.8, 5),
      makeSample("runs, one token", Form::Runs, 64, 1, 1, 1.0, 6),
      makeSample("table, head_dim 64", Form::Table, 64, 420, 2, 0.5, 7),
      makeSample("table, head_dim 128", Form::Table, 128, 560, 1, 0.4, 8),
      makeSample("table, more than one word", Form::Table, 64, 4500, 1, 0.06, 10),
      makeSample("schedule, head_dim 64", Form::Schedule, 64, 420, 2, 0.6, 9),
      makeSample("schedule, head_dim 128", Form::Schedule, 128, 420, 1, 0.7, 12),
      makeSample("schedule, rows of several runs", Form::Schedule, 64, 1300, 1, 0.6, 15),
      makeSample("full, head_dim 64", Form::Full, 64, 420, 2, 0.6, 13),
      makeSample("full, head_dim 128", Form::Full, 128, 420, 1, 0.7, 14),
      withAnchors(
          makeSample("runs, a repetitive head of width 52", Form::Runs, 64, 1040, 2, 0.4, 15),
          {10, 52, 3}),
      withAnchors(
          makeSample("table, a repetitive head of width 53", Form::Table, 128, 954, 1, 0.4, 16),
          {9, 53, 5}),
      withAnchors(
          makeSample("runs, a repetitive head of width 80", Form::Runs, 128, 560, 2, 0.5, 22),
          {7, 80, 2}),
      withAnchors(makeSample("schedule, a repetitive head", Form::Schedule, 128, 420, 2, 0.6, 18),
                  {7, 20, 5}),
      withAnchors(makeSample("full, a repetitive head", Form::Full, 64, 300, 2, 0.7, 19),
                  {10, 15, 3}),
      asList(makeSample("runs, head_dim 64", Form::Runs, 64, 420, 2, 0.6, 1), false),
      asList(makeSample("runs, head_dim 128", Form::Runs, 128, 560, 2, 0.6, 2), true),
      asList(makeSample("table, head_dim 64", Form::Table, 64, 700, 2, 0.5, 9), true),
      asList(withAnchors(makeSample("runs, a repetitive head of width 52", Form::Runs, 64, 1040, 2,
                                    0.4, 15),
                         {10, 52, 3}),
             false),
      asList(withAnchors(makeSample("table, a repetitive head of width 53", Form::Table, 128, 954,
                                    2, 0.4, 16),
                         {9, 53, 5}),
             true),
      withMmaSums(makeSample("table, head_dim 64", Form::Table, 64, 420, 2, 0.5, 7)),
      withMmaSums(makeSample("full, head_dim 128", Form::Full, 128, 420, 1, 0.7, 14)),
      withMmaSums(asList(makeSample("runs, head_dim 128", Form::Runs, 128, 560, 2, 0.6, 2), true)),
      withMmaSums(asList(withAnchors(makeSample("table, a repetitive head of width 53", Form::Table,
                                                128, 954, 2, 0.4, 16),
                                     {9, 53, 5}),
                         true)),
  };
}

} // namespace calibatt::test
