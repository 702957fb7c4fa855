// The kernels of the emulation test: what EmitSamples prints and the test runs.
#pragma once

#include "codegen/KernelPlan.h"
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
      blocks.push_back(uint16_t(row % schedule.keyBlocks));
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
  };
}

} // namespace calibatt::test
