// Sums over the sites of a profile, turned into means at the end.
#include "calib_profiles/ProfileSummary.h"
#include "runtime/format/RepetitiveTiles.h"

#include <algorithm>

namespace calibatt {

uint32_t earlySteps(uint32_t steps) { return (steps + 4) / 5; }
uint32_t lateStart(uint32_t steps) { return steps / 2; }

ProfileSummariser::ProfileSummariser(const ProfileHeader &h)
    : header(h),
      repetitiveShare(double(repetitiveTiles({h.grid.height, h.grid.width, h.criterion.anchors},
                                             uint32_t(h.tokens()), h.maxText)) /
                      h.blocks()) {
  sums.layers.resize(h.layers);
  sums.layersEarly.resize(h.layers);
  sums.layersLate.resize(h.layers);
  sums.repetitiveHeads.resize(h.layers);
  sums.steps.resize(h.stepCount());
}

void ProfileSummariser::add(uint32_t layer, const HeadProfile &head) {
  const uint32_t steps = header.stepCount();
  auto repetitive = [&](uint32_t step) {
    return head.stats[step].repetition >= header.criterion.gamma;
  };
  std::vector<double> runs;
  for (auto mask = head.masks.begin(); mask != head.masks.end(); ++mask) {
    runs.push_back(double(mask->runs()) / mask->rows());
    sums.distinctMasks += std::find(head.masks.begin(), mask, *mask) == mask;
  }
  uint32_t repetitiveSteps = 0;
  for (uint32_t step = 0; step < steps; ++step) {
    SiteMeans site;
    site.sites = 1;
    if (repetitive(step)) {
      site.repetitive = 1;
      site.computed = repetitiveShare;
      ++repetitiveSteps;
    } else {
      const SiteStats &stats = head.stats[step];
      site.density = site.computed = stats.density;
      site.keptMass = stats.keptMass;
      site.runsPerRow = runs[head.stepMask[step]];
      if (step > 0 && !repetitive(step - 1)) {
        const uint32_t a = head.stepMask[step - 1], b = head.stepMask[step];
        site.iou = a == b ? 1 : intersectionOverUnion(head.masks[a], head.masks[b]);
        site.pairs = 1;
      }
    }
    auto into = [&](SiteMeans &sum) {
      sum.sites += site.sites;
      sum.repetitive += site.repetitive;
      sum.density += site.density;
      sum.keptMass += site.keptMass;
      sum.runsPerRow += site.runsPerRow;
      sum.iou += site.iou;
      sum.pairs += site.pairs;
      sum.computed += site.computed;
    };
    into(sums.all);
    into(sums.layers[layer]);
    into(sums.steps[step]);
    if (step < earlySteps(steps)) {
      into(sums.early);
      into(sums.layersEarly[layer]);
    }
    if (step >= lateStart(steps)) {
      into(sums.late);
      into(sums.layersLate[layer]);
    }
  }
  sums.repetitiveHeads[layer] += 2 * repetitiveSteps >= steps;
}

ProfileSummary ProfileSummariser::finish() {
  auto divide = [](SiteMeans &m) {
    const double masked = double(std::max<uint64_t>(1, m.sites - m.repetitive));
    m.density /= masked;
    m.keptMass /= masked;
    m.runsPerRow /= masked;
    m.iou /= double(std::max<uint64_t>(1, m.pairs));
    m.computed /= double(std::max<uint64_t>(1, m.sites));
  };
  ProfileSummary result = sums;
  for (SiteMeans *m : {&result.all, &result.early, &result.late})
    divide(*m);
  for (auto *list : {&result.layers, &result.layersEarly, &result.layersLate, &result.steps})
    std::for_each(list->begin(), list->end(), divide);
  return result;
}

Result<ProfileSummary> summarise(const ProfileReader &profile) {
  ProfileSummariser summariser(profile.header());
  for (uint32_t layer = 0; layer < profile.header().layers; ++layer)
    for (uint32_t head = 0; head < profile.header().heads; ++head) {
      Result<HeadProfile> decoded = profile.head(layer, head);
      if (!decoded)
        return decoded.takeError();
      summariser.add(layer, *decoded);
    }
  return summariser.finish();
}

} // namespace calibatt
