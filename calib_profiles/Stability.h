// How stable what was calibrated is: over prompts, held-out prompts, and steps.
#pragma once

#include "calib_profiles/CountsSelection.h"

#include <cstdint>
#include <functional>
#include <vector>

namespace calibatt {

/// Sums over sites, turned into means by the functions. Repetitive sites count only
/// in `sites` and `repetitive`: their dense masks say nothing.
struct StabilityMeans {
  uint64_t sites = 0, repetitive = 0, pairs = 0;
  double densitySum = 0, keptSum = 0, heldOutSum = 0, ownSum = 0, recallSum = 0, iouSum = 0;

  StabilityMeans &operator+=(const StabilityMeans &other);
  bool masked() const { return sites > repetitive; }
  double density() const { return mean(densitySum); }
  /// Attention inside the masks, of the prompts they were selected from.
  double keptMass() const { return mean(keptSum); }
  /// The same of held-out prompts, under the same masks.
  double heldOutMass() const { return mean(heldOutSum); }
  /// Of held-out prompts under masks selected from themselves: what could be had.
  double ownMass() const { return mean(ownSum); }
  /// Of the attention inside those, the share that is inside the calibrated masks too.
  double recall() const { return mean(recallSum); }
  /// Of the masks of neighbouring steps.
  double iou() const { return pairs ? iouSum / double(pairs) : 0; }

private:
  double mean(double sum) const { return masked() ? sum / double(sites - repetitive) : 0; }
};

struct StabilityReport {
  ProfileHeader header;        ///< of the profile that a selection would make
  uint32_t heldOutPrompts = 0; ///< 0: none were given
  /// [prompts + 1] blocks that so many prompts kept, over sites that are not repetitive.
  std::vector<uint64_t> frequencies;
  StabilityMeans all;
  std::vector<StabilityMeans> steps, layers;
  std::vector<StabilityMeans> layerSteps; ///< [layers, steps]
  std::vector<StabilityMeans> layerHeads; ///< [layers, heads]

  /// Share of the blocks that fewer than 10 % or more than 90 % of the prompts kept.
  double decided() const;
  /// Heads that are repetitive at half the steps or more, of one layer or all.
  uint32_t repetitiveHeads(uint32_t layer) const;
};

/// Reads every site once. `heldOut` may be null; it has to be of the same problem,
/// and of prompts that `counts` do not have. `progress` is told finished heads.
Result<StabilityReport> analyseStability(const CountsReader &counts, const CountsReader *heldOut,
                                         const SelectionOptions &options, unsigned jobs,
                                         const std::function<void(uint64_t done)> &progress);

} // namespace calibatt
