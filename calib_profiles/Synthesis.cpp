// Presets, the mix of head kinds, and the loop over steps and pseudo-prompts.
#include "calib_profiles/Synthesis.h"
#include "calib_profiles/ProfileHeader.h"
#include "calib_profiles/Selection.h"
#include "calib_profiles/SyntheticHead.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace calibatt {

const char *headKindName(HeadKind kind) {
  static constexpr const char *names[kHeadKinds] = {"local",     "temporal",   "spatial",   "sink",
                                                    "scattered", "near-dense", "repetitive"};
  return names[size_t(kind)];
}

std::span<const SynthesisPreset> synthesisPresets() {
  static constexpr SynthesisPreset presets[] = {
      {"tiny", {4, 10, 14}, 2, 3, 128, 4, 3, 3, 1},
      {"wan2.1-1.3b-480p", {21, 30, 52}, 30, 12, 128, 50, 8, 3, 1},
      {"wan2.1-14b-480p", {21, 30, 52}, 40, 40, 128, 50, 8, 3, 1},
      {"wan2.1-14b-720p", {21, 45, 80}, 40, 40, 128, 50, 8, 5, 0.85},
  };
  return presets;
}

namespace {

/// n of `all` things, spread evenly; n = 0 is all of them.
std::vector<uint32_t> spreadEvenly(uint32_t n, uint32_t all) {
  std::vector<uint32_t> picked;
  n = n ? n : all;
  picked.reserve(n);
  for (uint64_t i = 0; i < n; ++i)
    picked.push_back(uint32_t((2 * i + 1) * all / (2 * uint64_t(n))));
  return picked;
}

/// Shares of the kinds in the middle layers, and what the outermost layers add:
/// repetitive heads cluster there.
constexpr std::array<double, kHeadKinds> kMiddleShares = {0.22, 0.18, 0.17, 0.11, 0.19, 0.10, 0.03};
constexpr double kOuterRepetitive = 0.25;
constexpr double kOuterLayers = 0.1; // of the layers, at either end

/// A repetition score below or above gamma, by kind, drifting with the step.
float repetitionOf(HeadKind kind, uint64_t seed, double time) {
  const double u = counterUniform(seed, 3), v = counterUniform(seed, 4);
  if (kind == HeadKind::Repetitive)
    return float(0.89 + 0.07 * u + 0.02 * v * time);
  const double base = kind == HeadKind::NearDense ? 0.6 : 0.2;
  return float(base + 0.2 * u + 0.05 * v * time);
}

} // namespace

Result<Synthesis> Synthesis::create(const SynthesisOptions &options) {
  Synthesis s;
  std::vector<std::string_view> names;
  for (const SynthesisPreset &preset : synthesisPresets()) {
    names.push_back(preset.name);
    if (options.preset == preset.name)
      s.preset = &preset;
  }
  if (!s.preset)
    return Error{fmt::format("preset: got \"{}\", wanted one of {}", options.preset,
                             fmt::join(names, ", "))};
  const SynthesisPreset &p = *s.preset;
  for (auto [what, got, most] : {std::tuple{"layers", options.layers, p.layers},
                                 {"heads", options.heads, p.heads},
                                 {"steps", options.steps, p.steps}})
    if (got > most)
      return Error{fmt::format("{}: got {}, but {} has {}", what, got, p.name, most)};
  s.seed = options.seed;
  s.layers = spreadEvenly(options.layers, p.layers);
  s.steps = spreadEvenly(options.steps, p.steps);
  s.schedule = defaultSchedule(p.grid.tokens(), p.steps);

  ProfileHeader &h = s.profileHeader;
  h.model = std::string("synthetic:") + p.name;
  h.grid = p.grid;
  h.layers = uint32_t(s.layers.size());
  h.heads = options.heads ? options.heads : p.heads;
  h.headDim = p.headDim;
  for (uint32_t step : s.steps) {
    const double linear = 1 - double(step) / p.steps;
    const double sigma = p.shift * linear / (1 + (p.shift - 1) * linear);
    h.steps.push_back({1000 * sigma, sigma, "transformer"});
  }
  h.scale = 1 / std::sqrt(double(p.headDim));
  h.criterion.a = s.schedule.a;
  h.criterion.c = s.schedule.c;
  h.criterion.k = s.schedule.k;
  h.prompts = p.prompts;
  h.seed = options.seed;
  h.tool = kToolName;
  return s;
}

HeadKind Synthesis::kind(uint32_t layer, uint32_t head) const {
  if (preset->layers * preset->heads <= kHeadKinds) // too few for shares: one of each
    return HeadKind((modelLayer(layer) * preset->heads + head + size_t(HeadKind::Repetitive)) %
                    kHeadKinds);
  const double depth = (modelLayer(layer) + 0.5) / preset->layers;
  const bool outer = std::min(depth, 1 - depth) < kOuterLayers;
  std::array<double, kHeadKinds> shares = kMiddleShares;
  double total = 1;
  if (outer) {
    shares[size_t(HeadKind::Repetitive)] += kOuterRepetitive;
    total += kOuterRepetitive;
  }
  // A golden-ratio sequence: any number of heads from 0 on has about the right mix.
  double position = counterUniform(seed, 0x1a7e5 + modelLayer(layer)) + head * 0.61803398874989;
  position -= std::floor(position);
  position *= total;
  for (uint32_t kind = 0; kind < kHeadKinds; ++kind) {
    if (position < shares[kind])
      return HeadKind(kind);
    position -= shares[kind];
  }
  return HeadKind::Local;
}

HeadProfile Synthesis::head(uint32_t layer, uint32_t head) const {
  const HeadKind headKind = kind(layer, head);
  const uint64_t headSeed =
      counterHash(counterHash(seed, 0x4ead), uint64_t(modelLayer(layer)) << 32 | head);
  const bool repetitive = headKind == HeadKind::Repetitive;
  const SyntheticHead source(*preset, headKind, headSeed, repetitive ? 0 : preset->prompts);

  HeadProfile profile;
  SiteVote vote(preset->grid.tokens());
  std::vector<float> energies, noisy;
  for (uint32_t step = 0; step < steps.size(); ++step) {
    const double time = double(steps[step]) / preset->steps;
    SiteStats stats;
    stats.repetition = repetitionOf(headKind, headSeed, time);
    stats.rowMax = float(8 + 20 * counterUniform(headSeed, 5) + 3 * time);
    if (stats.repetition >= profileHeader.criterion.gamma) {
      profile.masks.push_back(BlockMask::dense(source.blocks(), source.blocks()));
    } else {
      vote.clear();
      source.mix(time, energies);
      for (uint32_t prompt = 0; prompt < preset->prompts; ++prompt) {
        source.addPrompt(energies, prompt, noisy);
        vote.add(noisy, schedule.epsilon(steps[step]));
      }
      profile.masks.push_back(vote.mask(profileHeader.criterion.rho));
      stats.keptMass = float(vote.keptMass(profile.masks.back()));
      stats.density = float(profile.masks.back().density());
    }
    profile.stepMask.push_back(step);
    profile.stats.push_back(stats);
  }
  return profile;
}

} // namespace calibatt
