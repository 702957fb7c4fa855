// Checks that dumps belong together, and runs the method on one head at a time.
#include "calib_profiles/Calibration.h"
#include "calib_profiles/CountsFile.h"
#include "calib_profiles/Energy.h"
#include "calib_profiles/HeadSelector.h"
#include "calib_profiles/ParallelFor.h"
#include "calib_profiles/ProfileHeader.h"
#include "calib_profiles/Repetition.h"
#include "calib_profiles/Selection.h"
#include "runtime/format/Hash.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <mutex>

namespace calibatt {

namespace {

/// What a dump says, without prompt and criterion.
ProfileHeader problemOf(const DumpHeader &dump) {
  ProfileHeader h;
  h.model = dump.model;
  h.grid = dump.grid;
  h.layers = dump.layers;
  h.heads = dump.heads;
  h.headDim = dump.headDim;
  h.steps = dump.steps;
  h.scale = dump.scale;
  h.dtype = dump.dtype;
  return h;
}

} // namespace

Result<Calibration> Calibration::open(const std::vector<std::string> &paths,
                                      const CalibrationOptions &options) {
  if (paths.empty())
    return Error{"no dump given, wanted 1 to 255"};
  if (paths.size() > SiteVote::kMaxPrompts)
    return Error{fmt::format("got {} dumps, wanted at most {}: counts are 8 bits", paths.size(),
                             SiteVote::kMaxPrompts)};
  Calibration c;
  for (const std::string &path : paths) {
    Result<DumpReader> dump = DumpReader::open(path);
    if (!dump)
      return dump.takeError();
    c.dumps.push_back(dump.take());
  }
  std::stable_sort(c.dumps.begin(), c.dumps.end(), [](const DumpReader &a, const DumpReader &b) {
    return a.header().promptId < b.header().promptId;
  });
  Sha256 prompts;
  for (size_t i = 0; i < c.dumps.size(); ++i) {
    const std::string &id = c.dumps[i].header().promptId;
    if (i > 0) {
      if (Status s = checkSameProblem(problemOf(c.dumps[0].header()), c.dumps[0].path(),
                                      problemOf(c.dumps[i].header()), c.dumps[i].path());
          !s)
        return s.takeError();
      if (c.dumps[i - 1].header().promptId == id)
        return Error{fmt::format("{}: prompt_id: got \"{}\", but {} has the same",
                                 c.dumps[i].path(), id, c.dumps[i - 1].path())};
    }
    prompts.update(id + "\n");
  }

  ProfileHeader &h = c.profileHeader;
  h = problemOf(c.dumps[0].header());
  if (!options.model.empty())
    h.model = options.model;
  const EnergySchedule schedule = defaultSchedule(h.tokens(), h.stepCount());
  h.criterion = {options.a.value_or(schedule.a),
                 options.c.value_or(schedule.c),
                 options.k.value_or(schedule.k),
                 options.rho,
                 options.gamma,
                 options.anchors};
  h.prompts = uint32_t(c.dumps.size());
  Sha256Digest digest = prompts.finish();
  h.promptsHash = toHex(digest);
  h.tool = kToolName;
  if (Status s = validateHeader(h, c.dumps[0].path()); !s)
    return s.takeError();
  return c;
}

Result<HeadProfile> Calibration::head(uint32_t layer, uint32_t head) const {
  const ProfileHeader &h = profileHeader;
  const EnergySchedule schedule = scheduleOf(h.criterion, h.stepCount());
  HeadSelector selector(h);
  SiteVote vote(h.tokens());
  std::vector<float> q, k;
  for (uint32_t step = 0; step < h.stepCount(); ++step) {
    vote.clear();
    SiteScalars scalars;
    scalars.rowMax = -std::numeric_limits<float>::infinity();
    for (const DumpReader &dump : dumps) {
      if (Status s = dump.read(layer, head, step, q, k); !s)
        return s.takeError();
      const HeadInput input{q, k, h.tokens(), h.headDim, h.scale};
      const KeyBlocks keys(input);
      const BlockEnergies energies = blockEnergies(input, keys);
      vote.add(energies.energies, schedule.epsilon(step));
      scalars.addScore(repetitionScore(input, keys, energies.lse, h.grid, h.criterion.anchors));
      scalars.rowMax = std::max(scalars.rowMax,
                                *std::max_element(energies.rowMax.begin(), energies.rowMax.end()));
    }
    selector.add(vote.all(), scalars.score(h.prompts), scalars.rowMax);
  }
  return selector.take();
}

Status Calibration::measure(const DumpReader &dump, CountsAccumulator &counts,
                            uint64_t site) const {
  const ProfileHeader &h = profileHeader;
  const uint32_t step = uint32_t(site % h.stepCount());
  const uint64_t head = site / h.stepCount();
  std::vector<float> q, k;
  if (Status s = dump.read(uint32_t(head / h.heads), uint32_t(head % h.heads), step, q, k); !s)
    return s;
  const HeadInput input{q, k, h.tokens(), h.headDim, h.scale};
  const KeyBlocks keys(input);
  const BlockEnergies energies = blockEnergies(input, keys);
  SiteMeasurement measured;
  measured.energies = energies.energies;
  measured.repetition = repetitionScore(input, keys, energies.lse, h.grid, h.criterion.anchors);
  measured.rowMax = *std::max_element(energies.rowMax.begin(), energies.rowMax.end());
  if (Status s = counts.check(site, measured); !s)
    return Error{fmt::format("{}: {}", dump.path(), s.message())};
  return counts.add(site, measured);
}

Status Calibration::countInto(CountsAccumulator &counts, unsigned jobs,
                              const std::function<void(uint64_t done)> &progress) const {
  if (Status s = checkSameProblem(counts.counts().header(), counts.counts().path(), profileHeader,
                                  "the dumps");
      !s)
    return s;
  const uint64_t sites = counts.counts().layout().sites;
  uint64_t done = 0;
  std::mutex mutex; // of done, and of the caller's progress
  auto report = [&](uint64_t more) {
    std::lock_guard lock(mutex);
    progress(done += more);
  };
  for (const DumpReader &dump : dumps) {
    const std::string &id = dump.header().promptId;
    const std::vector<std::string> &counted = counts.counts().prompts();
    if (std::binary_search(counted.begin(), counted.end(), id)) {
      report(sites);
      continue;
    }
    if (Status s = counts.begin(id); !s)
      return s;
    Status measured = parallelFor(sites, jobs, [&](uint64_t site) {
      Status s = measure(dump, counts, site);
      report(1);
      return s;
    });
    if (!measured) {
      counts.abandon();
      return measured;
    }
    if (Status s = counts.commit(); !s)
      return s;
  }
  return {};
}

} // namespace calibatt
