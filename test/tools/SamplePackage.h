// A small package and the profile it belongs to, with random masks: every form of
// a schedule, made without a compiler.
#pragma once

#include "calib_profiles/Profile.h"
#include "runtime/format/Package.h"
#include "runtime/format/ScheduleImage.h"

#include <string>
#include <vector>

namespace calibatt::test {

/// 3 x 7 x 20 = 420 tokens: 4 blocks, the last of 36.
constexpr uint32_t kLayers = 2, kHeads = 2, kSteps = 4, kTokens = 420, kBlocks = 4, kHeadDim = 64;

/// That of emittedText().
constexpr double kScale = 0.125;
constexpr double kGamma = 0.87;
constexpr uint32_t kAnchors = 5;
constexpr float kRepetitive = 0.95f; ///< score of the repetitive site

struct Sample {
  /// Fresh random masks, no row empty, the diagonal kept; site (1, 1, 3) is
  /// repetitive and dense.
  Sample();

  const BlockMask &mask(uint32_t layer, uint32_t head, uint32_t step) const {
    return masks[(layer * kHeads + head) * kSteps + step];
  }
  BlockMask &mask(uint32_t layer, uint32_t head, uint32_t step) {
    return masks[(layer * kHeads + head) * kSteps + step];
  }
  void writeProfile(const std::string &path) const;
  /// Layer 0 alternates runs and table, one kernel a step; layer 1 alternates full and schedule:
  /// their kernels are read back from text. Code images are ELF files with a
  /// schedule symbol and no code.
  void writePackage(const std::string &path) const;

  unsigned seed;
  std::vector<BlockMask> masks;
  /// Of the profile, whose densities the package tells; empty: those of `masks`.
  std::vector<BlockMask> measured;
  std::string model = "sample";
  /// Site (1, 1, 3) of the package computes its anchor rows only, as a compile makes it.
  bool packed = false;
  float profileShare = 1; ///< of the densities that the package says the profile had
  std::vector<SupersetPass> supersetPasses; ///< of the package's manifest
};

/// The schedule of all heads of one step.
Schedule scheduleOf(const Sample &sample, uint32_t layer, uint32_t step);

} // namespace calibatt::test
