// calibatt_counts_*: opening counts and adding prompts.
#include "calib_profiles/EnergySchedule.h"
#include "calib_profiles/ParallelFor.h"
#include "calib_profiles/ProfileHeader.h"
#include "calib_profiles/abi/CountsHandle.h"
#include "runtime/format/Quantity.h"

#include <cmath>
#include <filesystem>

using namespace calibatt;
using namespace calibatt::abi;

namespace {

const char *dtypeText(calibatt_profile_dtype_t dtype) {
  switch (dtype) {
  case CALIBATT_PROFILE_DTYPE_BF16:
    return "bf16";
  case CALIBATT_PROFILE_DTYPE_F32:
    return "f32";
  case CALIBATT_PROFILE_DTYPE_F16:
    return "f16";
  }
  return "unknown"; // which validateHeader() refuses
}

ProfileHeader headerOf(const calibatt_counts_problem_t &p) {
  ProfileHeader h;
  h.model = p.model ? p.model : "";
  h.grid = {p.frames, p.height, p.width};
  h.maxText = p.max_text;
  h.layers = p.layers;
  h.heads = p.heads;
  h.headDim = p.head_dim;
  // More are refused below; as many must not be read.
  for (uint32_t step = 0; step < std::min(p.steps, kMaxSteps + 1); ++step)
    h.steps.push_back({p.timesteps ? p.timesteps[step] : 0, p.sigmas ? p.sigmas[step] : 0,
                       p.modules ? p.modules[step] : "transformer"});
  h.dtype = dtypeText(p.dtype);
  h.scale = p.scale != 0 ? p.scale : 1 / std::sqrt(double(std::max(1u, p.head_dim)));
  const bool given = p.eps_a != 0 || p.eps_c != 0 || p.eps_k != 0;
  const EnergySchedule schedule =
      given ? EnergySchedule{p.eps_a, p.eps_c, p.eps_k} : defaultSchedule(h.grid.tokens(), p.steps);
  h.criterion.a = schedule.a;
  h.criterion.c = schedule.c;
  h.criterion.k = schedule.k;
  h.criterion.anchors = p.anchors ? p.anchors : 5;
  h.tool = kToolName;
  return h;
}

calibatt_profile_status_t checkSite(const CountsAccumulator &accumulator, uint32_t layer,
                                    uint32_t step) {
  const ProfileHeader &h = accumulator.counts().header();
  if (layer < h.layers && step < h.stepCount())
    return CALIBATT_PROFILE_STATUS_OK;
  return fail(CALIBATT_PROFILE_STATUS_MISMATCH,
              fmt::format("{}: layer {}, step {}: the counts are of {} and {}",
                          accumulator.counts().path(), layer, step, counted(h.layers, "layer"),
                          counted(h.stepCount(), "step")));
}

calibatt_profile_status_t noPrompt(const char *function) {
  return fail(CALIBATT_PROFILE_STATUS_INVALID_ARGUMENT,
              fmt::format("{}: no prompt is open", function));
}

/// The measurement of head `head`, counted from the first of `given`.
SiteMeasurement measurementOf(const calibatt_site_energies_t &given, uint32_t head,
                              uint32_t blocks) {
  const size_t perHead = size_t(blocks) * blocks, bits = blocks * BlockMask::rowBytes(blocks);
  SiteMeasurement measured;
  measured.energies = {given.energies + head * perHead, perHead};
  if (given.cover)
    measured.cover = {given.cover + head * bits, bits};
  measured.repetition = given.repetition[head];
  measured.rowMax = given.row_max ? given.row_max[head] : 0;
  return measured;
}

} // namespace

calibatt_profile_status_t calibatt_counts_open(const char *path,
                                               const calibatt_counts_problem_t *problem,
                                               calibatt_counts_t **counts) {
  return guarded([&] {
    constexpr const char *kFunction = "calibatt_counts_open";
    if (!path || !counts)
      return nullArgument(kFunction, path ? "counts" : "path");
    ProfileHeader wanted;
    if (problem) {
      calibatt_counts_problem_t value;
      if (const auto status = readStruct(kFunction, problem, value))
        return status;
      wanted = headerOf(value);
      if (Status s = validateHeader(wanted, kFunction); !s)
        return fail(CALIBATT_PROFILE_STATUS_INVALID_ARGUMENT, s);
    }
    std::error_code ignored;
    if (!problem && !std::filesystem::exists(path, ignored))
      return fail(CALIBATT_PROFILE_STATUS_BAD_FILE, fmt::format("{}: is not there", path));
    bool held = false;
    Result<CountsLock> lock = CountsLock::forWriting(path, &held);
    if (!lock)
      return fail(held ? CALIBATT_PROFILE_STATUS_BUSY : CALIBATT_PROFILE_STATUS_STORAGE,
                  lock.message());
    if (!std::filesystem::exists(path, ignored))
      if (Status s = CountsAccumulator::createFile(path, wanted); !s)
        return fail(CALIBATT_PROFILE_STATUS_STORAGE, s);
    Result<CountsAccumulator> opened = CountsAccumulator::open(path, lock.take());
    if (!opened)
      return fail(CALIBATT_PROFILE_STATUS_BAD_FILE, opened.message());
    if (problem)
      if (Status s = checkSameProblem(opened->counts().header(), path, wanted, "this run"); !s)
        return fail(CALIBATT_PROFILE_STATUS_MISMATCH, s);
    *counts = new calibatt_counts{opened.take(), {}};
    return CALIBATT_PROFILE_STATUS_OK;
  });
}

void calibatt_counts_close(calibatt_counts_t *counts) { delete counts; }

calibatt_profile_status_t calibatt_counts_info(calibatt_counts_t *counts,
                                               calibatt_counts_info_t *info) {
  return withCounts(counts, "calibatt_counts_info", [&](CountsAccumulator &accumulator) {
    const CountsReader &reader = accumulator.counts();
    const ProfileHeader &h = reader.header();
    const PromptWriter *prompt = accumulator.prompt();
    calibatt_counts_info_t value = {};
    value.model = h.model.c_str();
    value.frames = h.grid.frames;
    value.height = h.grid.height;
    value.width = h.grid.width;
    value.max_text = h.maxText;
    value.layers = h.layers;
    value.heads = h.heads;
    value.steps = h.stepCount();
    value.head_dim = h.headDim;
    value.blocks = h.blocks();
    value.anchors = h.criterion.anchors;
    value.prompts = h.prompts;
    value.prompt_open = prompt != nullptr;
    value.recovered = accumulator.recovered();
    value.sites = reader.layout().sites;
    value.sites_added = prompt ? prompt->sitesAdded() : 0;
    value.scale = h.scale;
    value.eps_a = h.criterion.a;
    value.eps_c = h.criterion.c;
    value.eps_k = h.criterion.k;
    double kept = 0;
    for (uint64_t site = 0; site < value.sites; ++site)
      kept += double(reader.scalars(site).kept) + double(prompt ? prompt->kept(site) : 0);
    const double covers = double(value.sites) * h.prompts + double(value.sites_added);
    value.density = covers > 0 ? kept / covers / h.blocks() / h.blocks() : 0;
    return writeStruct("calibatt_counts_info", value, info);
  });
}

calibatt_profile_status_t calibatt_counts_prompt(calibatt_counts_t *counts, uint32_t index,
                                                 const char **id) {
  return withCounts(counts, "calibatt_counts_prompt", [&](CountsAccumulator &accumulator) {
    if (!id)
      return nullArgument("calibatt_counts_prompt", "id");
    const std::vector<std::string> &ids = accumulator.counts().prompts();
    if (index >= ids.size())
      return fail(CALIBATT_PROFILE_STATUS_INVALID_ARGUMENT,
                  fmt::format("calibatt_counts_prompt: index {}, but there are {}", index,
                              counted(ids.size(), "prompt")));
    *id = ids[index].c_str();
    return CALIBATT_PROFILE_STATUS_OK;
  });
}

calibatt_profile_status_t calibatt_counts_has_prompt(calibatt_counts_t *counts, const char *id,
                                                     int *has) {
  return withCounts(counts, "calibatt_counts_has_prompt", [&](CountsAccumulator &accumulator) {
    if (!id || !has)
      return nullArgument("calibatt_counts_has_prompt", id ? "has" : "id");
    const std::vector<std::string> &ids = accumulator.counts().prompts();
    *has = std::binary_search(ids.begin(), ids.end(), std::string(id));
    return CALIBATT_PROFILE_STATUS_OK;
  });
}

calibatt_profile_status_t calibatt_counts_epsilon(calibatt_counts_t *counts, uint32_t step,
                                                  double *epsilon) {
  return withCounts(counts, "calibatt_counts_epsilon", [&](CountsAccumulator &accumulator) {
    if (!epsilon)
      return nullArgument("calibatt_counts_epsilon", "epsilon");
    if (const auto status = checkSite(accumulator, 0, step))
      return status;
    *epsilon = accumulator.epsilon(step);
    return CALIBATT_PROFILE_STATUS_OK;
  });
}

calibatt_profile_status_t calibatt_counts_density(calibatt_counts_t *counts, uint32_t layer,
                                                  uint32_t step, float *density) {
  return withCounts(counts, "calibatt_counts_density", [&](CountsAccumulator &accumulator) {
    if (!density)
      return nullArgument("calibatt_counts_density", "density");
    if (const auto status = checkSite(accumulator, layer, step))
      return status;
    const CountsReader &reader = accumulator.counts();
    const ProfileHeader &h = reader.header();
    const PromptWriter *prompt = accumulator.prompt();
    for (uint32_t head = 0; head < h.heads; ++head) {
      const uint64_t site = reader.siteIndex(layer, head, step);
      const bool here = prompt && prompt->has(site);
      const double kept = double(reader.scalars(site).kept) + double(here ? prompt->kept(site) : 0);
      density[head] = float(kept / std::max(1u, h.prompts + here) / h.blocks() / h.blocks());
    }
    return CALIBATT_PROFILE_STATUS_OK;
  });
}

calibatt_profile_status_t calibatt_counts_begin_prompt(calibatt_counts_t *counts, const char *id) {
  return withCounts(counts, "calibatt_counts_begin_prompt", [&](CountsAccumulator &accumulator) {
    if (!id)
      return nullArgument("calibatt_counts_begin_prompt", "id");
    if (const PromptWriter *open = accumulator.prompt())
      return fail(
          CALIBATT_PROFILE_STATUS_INVALID_ARGUMENT,
          fmt::format("calibatt_counts_begin_prompt: prompt \"{}\" is open", open->promptId()));
    if (Status s = accumulator.checkNewPrompt(id); !s)
      return fail(CALIBATT_PROFILE_STATUS_MISMATCH, s);
    if (Status s = accumulator.begin(id); !s)
      return fail(CALIBATT_PROFILE_STATUS_STORAGE, s);
    return CALIBATT_PROFILE_STATUS_OK;
  });
}

calibatt_profile_status_t calibatt_counts_add(calibatt_counts_t *counts,
                                              const calibatt_site_energies_t *site) {
  constexpr const char *kFunction = "calibatt_counts_add";
  return withCounts(counts, kFunction, [&](CountsAccumulator &accumulator) {
    calibatt_site_energies_t given;
    if (const auto status = readStruct(kFunction, site, given))
      return status;
    if (!given.energies || !given.repetition)
      return nullArgument(kFunction, given.energies ? "repetition" : "energies");
    const PromptWriter *prompt = accumulator.prompt();
    if (!prompt)
      return noPrompt(kFunction);
    if (const auto status = checkSite(accumulator, given.layer, given.step))
      return status;
    const CountsReader &reader = accumulator.counts();
    const ProfileHeader &h = reader.header();
    const uint32_t first = given.head_begin;
    const uint32_t count = given.head_count ? given.head_count : h.heads - std::min(first, h.heads);
    if (count == 0 || first >= h.heads || count > h.heads - first)
      return fail(CALIBATT_PROFILE_STATUS_MISMATCH,
                  fmt::format("{}: heads {} to {} given, the counts are of {}", reader.path(),
                              first, uint64_t(first) + count, counted(h.heads, "head")));
    auto siteOf = [&](uint64_t head) {
      return reader.siteIndex(given.layer, uint32_t(first + head), given.step);
    };
    for (uint32_t head = 0; head < count; ++head)
      if (prompt->has(siteOf(head)))
        return fail(CALIBATT_PROFILE_STATUS_INVALID_ARGUMENT,
                    fmt::format("{}: prompt \"{}\": {} is added a second time", kFunction,
                                prompt->promptId(), reader.siteName(siteOf(head))));
    // All heads are checked before any is added, so that a refused call adds nothing.
    if (Status s = parallelFor(count, 0,
                               [&](uint64_t head) {
                                 return accumulator.check(
                                     siteOf(head),
                                     measurementOf(given, uint32_t(head), h.blocks()));
                               });
        !s)
      return fail(CALIBATT_PROFILE_STATUS_BAD_VALUES, s);
    if (Status s =
            parallelFor(count, 0,
                        [&](uint64_t head) {
                          return accumulator.add(siteOf(head),
                                                 measurementOf(given, uint32_t(head), h.blocks()));
                        });
        !s)
      return fail(CALIBATT_PROFILE_STATUS_STORAGE, s);
    return CALIBATT_PROFILE_STATUS_OK;
  });
}

calibatt_profile_status_t calibatt_counts_commit_prompt(calibatt_counts_t *counts) {
  constexpr const char *kFunction = "calibatt_counts_commit_prompt";
  return withCounts(counts, kFunction, [&](CountsAccumulator &accumulator) {
    const PromptWriter *prompt = accumulator.prompt();
    if (!prompt)
      return noPrompt(kFunction);
    if (Status s = prompt->checkComplete(); !s)
      return fail(CALIBATT_PROFILE_STATUS_INVALID_ARGUMENT, s);
    if (Status s = accumulator.commit(); !s)
      return fail(CALIBATT_PROFILE_STATUS_STORAGE, s);
    return CALIBATT_PROFILE_STATUS_OK;
  });
}

calibatt_profile_status_t calibatt_counts_abandon_prompt(calibatt_counts_t *counts) {
  return withCounts(counts, "calibatt_counts_abandon_prompt", [&](CountsAccumulator &accumulator) {
    accumulator.abandon();
    return CALIBATT_PROFILE_STATUS_OK;
  });
}
