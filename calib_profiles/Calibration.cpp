// Checks that dumps belong together, and runs the method on one head at a time.
#include "calib_profiles/Calibration.h"
#include "calib_profiles/Energy.h"
#include "calib_profiles/ProfileHeader.h"
#include "calib_profiles/Repetition.h"
#include "calib_profiles/Selection.h"
#include "runtime/format/Hash.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace calibatt {

namespace {

std::string gridText(const Grid &grid) {
  return fmt::format("{}x{}x{}", grid.frames, grid.height, grid.width);
}

/// The first field in which two dumps differ, or nothing.
Status checkAgreement(const DumpReader &a, const DumpReader &b) {
  auto compare = [&](const char *field, const auto &wanted, const auto &got) -> Status {
    if (wanted == got)
      return {};
    return Error{
        fmt::format("{}: {}: got {}, but {} has {}", b.path(), field, got, a.path(), wanted)};
  };
  const DumpHeader &x = a.header(), &y = b.header();
  for (const Status &s :
       {compare("model", x.model, y.model), compare("grid", gridText(x.grid), gridText(y.grid)),
        compare("head_dim", x.headDim, y.headDim), compare("layers", x.layers, y.layers),
        compare("heads", x.heads, y.heads), compare("steps", x.steps.size(), y.steps.size()),
        compare("scale", x.scale, y.scale), compare("dtype", x.dtype, y.dtype)})
    if (!s)
      return s;
  for (size_t i = 0; i < x.steps.size(); ++i)
    for (const Status &s :
         {compare(fmt::format("timestep of step {}", i).c_str(), x.steps[i].timestep,
                  y.steps[i].timestep),
          compare(fmt::format("sigma of step {}", i).c_str(), x.steps[i].sigma, y.steps[i].sigma),
          compare(fmt::format("module of step {}", i).c_str(), x.steps[i].module,
                  y.steps[i].module)})
      if (!s)
        return s;
  return {};
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
      if (Status s = checkAgreement(c.dumps[0], c.dumps[i]); !s)
        return s.takeError();
      if (c.dumps[i - 1].header().promptId == id)
        return Error{fmt::format("{}: prompt_id: got \"{}\", but {} has the same",
                                 c.dumps[i].path(), id, c.dumps[i - 1].path())};
    }
    prompts.update(id + "\n");
  }

  const DumpHeader &dump = c.dumps[0].header();
  ProfileHeader &h = c.profileHeader;
  h.model = options.model.empty() ? dump.model : options.model;
  h.grid = dump.grid;
  h.layers = dump.layers;
  h.heads = dump.heads;
  h.headDim = dump.headDim;
  h.steps = dump.steps;
  h.scale = dump.scale;
  h.dtype = dump.dtype;
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
  HeadProfile profile;
  SiteVote vote(h.tokens());
  std::vector<float> q, k;
  for (uint32_t step = 0; step < h.stepCount(); ++step) {
    vote.clear();
    SiteStats stats;
    stats.rowMax = -std::numeric_limits<float>::infinity();
    double repetition = 0;
    for (const DumpReader &dump : dumps) {
      if (Status s = dump.read(layer, head, step, q, k); !s)
        return s.takeError();
      const HeadInput input{q, k, h.tokens(), h.headDim, h.scale};
      const KeyBlocks keys(input);
      const BlockEnergies energies = blockEnergies(input, keys);
      vote.add(energies.energies, schedule.epsilon(step));
      repetition += repetitionScore(input, keys, energies.lse, h.grid, h.criterion.anchors);
      stats.rowMax =
          std::max(stats.rowMax, *std::max_element(energies.rowMax.begin(), energies.rowMax.end()));
    }
    stats.repetition = float(std::clamp(repetition / double(dumps.size()), -1.0, 1.0));
    if (stats.repetition >= h.criterion.gamma) {
      profile.masks.push_back(BlockMask::dense(vote.blocks(), vote.blocks()));
    } else {
      profile.masks.push_back(vote.mask(h.criterion.rho));
      stats.keptMass = float(vote.keptMass(profile.masks.back()));
      stats.density = float(profile.masks.back().density());
    }
    profile.stepMask.push_back(step);
    profile.stats.push_back(stats);
  }
  return profile;
}

} // namespace calibatt
