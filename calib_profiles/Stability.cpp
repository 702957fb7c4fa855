// One head at a time: its masks, what they keep of other prompts, and how they
// change from step to step.
#include "calib_profiles/Stability.h"
#include "calib_profiles/ParallelFor.h"
#include "calib_profiles/ProfileHeader.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>

namespace calibatt {

namespace {

struct HeadStability {
  std::vector<uint64_t> frequencies;
  std::vector<StabilityMeans> steps;
};

BlockMask intersection(const BlockMask &a, const BlockMask &b) {
  BlockMask both = a;
  for (size_t i = 0; i < both.bytes().size(); ++i)
    both.bytes()[i] &= b.bytes()[i];
  return both;
}

class Analysis {
public:
  Analysis(const CountsReader &counts, const CountsReader *heldOut,
           const CountsSelection &selection)
      : counts(counts), heldOut(heldOut), header(selection.header()), selection(selection) {}

  Result<HeadStability> head(uint32_t layer, uint32_t head) const {
    DenoisingCosts costs;
    Result<HeadProfile> profile = selection.head(layer, head, costs);
    if (!profile)
      return profile.takeError();
    HeadStability result;
    result.frequencies.resize(header.prompts + 1);
    for (uint32_t step = 0; step < header.stepCount(); ++step) {
      StabilityMeans means;
      means.sites = 1;
      if (repetitive(*profile, step)) {
        means.repetitive = 1;
      } else {
        means.densitySum = profile->stats[step].density;
        means.keptSum = profile->stats[step].keptMass;
        const BlockMask &mask = profile->masks[step];
        if (step > 0 && !repetitive(*profile, step - 1)) {
          means.pairs = 1;
          means.iouSum = intersectionOverUnion(profile->masks[step - 1], mask);
        }
        if (Status s = addCounts(layer, head, step, mask, result.frequencies, means); !s)
          return s.takeError();
      }
      result.steps.push_back(means);
    }
    return result;
  }

private:
  bool repetitive(const HeadProfile &profile, uint32_t step) const {
    return profile.stats[step].repetition >= header.criterion.gamma;
  }

  Status addCounts(uint32_t layer, uint32_t head, uint32_t step, const BlockMask &mask,
                   std::vector<uint64_t> &frequencies, StabilityMeans &means) const {
    const uint64_t index = counts.siteIndex(layer, head, step);
    Result<std::vector<uint8_t>> kept = counts.raw(CountsTensor::Count, index);
    if (!kept)
      return kept.takeError();
    for (uint8_t count : *kept) // checked by the selection
      ++frequencies[count];
    if (!heldOut)
      return {};
    Result<SiteCounts> other = heldOut->site(index);
    if (!other)
      return other.takeError();
    const BlockMask own = other->mask(header.criterion.rho);
    means.heldOutSum = other->keptMass(mask);
    means.ownSum = other->keptMass(own);
    means.recallSum = other->keptMass(intersection(mask, own)) / means.ownSum;
    return {};
  }

  const CountsReader &counts;
  const CountsReader *heldOut;
  const ProfileHeader &header;
  const CountsSelection &selection;
};

Status checkHeldOut(const CountsReader &counts, const CountsReader &heldOut) {
  if (Status s = checkSameProblem(counts.header(), counts.path(), heldOut.header(), heldOut.path());
      !s)
    return s;
  if (heldOut.prompts().empty())
    return Error{fmt::format("{}: has no prompts yet, wanted 1 or more", heldOut.path())};
  for (const std::string &id : heldOut.prompts())
    if (std::binary_search(counts.prompts().begin(), counts.prompts().end(), id))
      return Error{fmt::format("{}: prompt \"{}\" is not held out: it is in {} too", heldOut.path(),
                               id, counts.path())};
  return {};
}

} // namespace

StabilityMeans &StabilityMeans::operator+=(const StabilityMeans &other) {
  sites += other.sites;
  repetitive += other.repetitive;
  pairs += other.pairs;
  densitySum += other.densitySum;
  keptSum += other.keptSum;
  heldOutSum += other.heldOutSum;
  ownSum += other.ownSum;
  recallSum += other.recallSum;
  iouSum += other.iouSum;
  return *this;
}

double StabilityReport::decided() const {
  uint64_t decided = 0, total = 0;
  for (uint64_t count = 0; count < frequencies.size(); ++count) {
    total += frequencies[count];
    if (count * 10 < header.prompts || count * 10 > uint64_t(header.prompts) * 9)
      decided += frequencies[count];
  }
  return total ? double(decided) / double(total) : 0;
}

uint32_t StabilityReport::repetitiveHeads(uint32_t layer) const {
  uint32_t heads = 0;
  for (uint32_t head = 0; head < header.heads; ++head) {
    const StabilityMeans &means = layerHeads[layer * header.heads + head];
    heads += 2 * means.repetitive >= means.sites;
  }
  return heads;
}

Result<StabilityReport> analyseStability(const CountsReader &counts, const CountsReader *heldOut,
                                         const SelectionOptions &options, unsigned jobs,
                                         const std::function<void(uint64_t done)> &progress) {
  if (heldOut)
    if (Status s = checkHeldOut(counts, *heldOut); !s)
      return s.takeError();
  Result<CountsSelection> selection = CountsSelection::create(counts, options);
  if (!selection)
    return selection.takeError();
  StabilityReport report;
  report.header = selection->header();
  report.heldOutPrompts = heldOut ? uint32_t(heldOut->prompts().size()) : 0;
  const ProfileHeader &h = report.header;
  std::vector<HeadStability> heads(uint64_t(h.layers) * h.heads);
  const Analysis analysis(counts, heldOut, *selection);
  std::mutex mutex;
  uint64_t done = 0;
  if (Status s = parallelFor(heads.size(), jobs,
                             [&](uint64_t index) -> Status {
                               Result<HeadStability> head = analysis.head(
                                   uint32_t(index / h.heads), uint32_t(index % h.heads));
                               if (!head)
                                 return head.takeError();
                               heads[index] = head.take();
                               std::lock_guard lock(mutex);
                               progress(++done);
                               return {};
                             });
      !s)
    return s.takeError();

  // In order, so that the number of threads does not change what rounding leaves.
  report.frequencies.resize(h.prompts + 1);
  report.steps.resize(h.stepCount());
  report.layers.resize(h.layers);
  report.layerSteps.resize(size_t(h.layers) * h.stepCount());
  report.layerHeads.resize(heads.size());
  for (uint64_t index = 0; index < heads.size(); ++index) {
    const uint64_t layer = index / h.heads;
    for (size_t i = 0; i < report.frequencies.size(); ++i)
      report.frequencies[i] += heads[index].frequencies[i];
    for (uint32_t step = 0; step < h.stepCount(); ++step)
      for (StabilityMeans *into :
           {&report.all, &report.steps[step], &report.layers[layer],
            &report.layerSteps[layer * h.stepCount() + step], &report.layerHeads[index]})
        *into += heads[index].steps[step];
  }
  return report;
}

} // namespace calibatt
