// Components of a head by kind, smooth noise between steps, fixed noise a prompt.
#include "calib_profiles/SyntheticHead.h"
#include "calib_profiles/TokenGeometry.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numbers>

namespace calibatt {

uint64_t counterHash(uint64_t seed, uint64_t counter) {
  uint64_t z = seed + (counter + 1) * 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

double counterUniform(uint64_t seed, uint64_t counter) {
  return double(counterHash(seed, counter) >> 11) * 0x1p-53;
}

namespace {

constexpr double kFar = std::numeric_limits<double>::infinity();

// Noise of neighbouring blocks is alike, as content is: one free value every
// so many key blocks and query blocks, linear between.
constexpr uint32_t kNoiseColumns = 4;
constexpr uint32_t kNoiseRows = 3;
constexpr double kStepNoise = 0.55;   // of log energies, one standard deviation
constexpr double kPromptNoise = 0.35; // the same, between prompts
// How far the noise has turned by the last step: fast at first, then slowly.
constexpr double kEarlyTurn = 0.7, kLateTurn = 7, kTurnRate = 9;

/// Sum of four uniforms, scaled to mean 0 and variance 1.
float nearNormal(uint64_t bits) {
  const int32_t sum = int32_t(bits & 0xffff) + int32_t(bits >> 16 & 0xffff) +
                      int32_t(bits >> 32 & 0xffff) + int32_t(bits >> 48);
  return float(sum - 2 * 0xffff) * float(std::numbers::sqrt3 / 0xffff);
}

/// exp(x) to 2e-4 relative for |x| < 80, vectorisable and without a libm.
float quickExp(float x) {
  const float y = std::clamp(x, -80.0f, 80.0f) * float(std::numbers::log2e);
  const int32_t whole = int32_t(y + 128.0f) - 128; // floor, y > -128
  const float f = y - float(whole);
  const float p = 1.0f + f * (0.69606564f + f * (0.22449434f + f * 0.07944024f));
  return p * std::bit_cast<float>((whole + 127) << 23);
}

/// A square map whose every row is `row` / `total`.
std::vector<float> equalRows(const std::vector<float> &row, double total) {
  const size_t blocks = row.size();
  std::vector<float> energies(blocks * blocks);
  for (size_t r = 0; r < blocks; ++r)
    for (size_t c = 0; c < blocks; ++c)
      energies[r * blocks + c] = float(row[c] / total);
  return energies;
}

} // namespace

SyntheticHead::SyntheticHead(const SynthesisPreset &preset, HeadKind kind, uint64_t seed,
                             uint32_t prompts)
    : preset(preset), seed(seed), numBlocks(uint32_t((preset.grid.tokens() + 127) / 128)) {
  const Grid &grid = preset.grid;
  const auto fragments = rowFragments(grid);
  auto jitter = [&](uint64_t counter, double low, double high) {
    return low * std::pow(high / low, counterUniform(seed, counter));
  };
  auto kernel = [&](double frames, double rows) {
    return kernelEnergies(
        grid, fragments,
        {frames * preset.spread, rows * preset.spread * grid.height / 30.0, 0.5 * grid.width});
  };
  // Weights are of late steps; a positive drift is stronger in early ones.
  const double spread = jitter(0, 0.7, 1.4);
  std::vector<float> uniform = kernelEnergies(grid, fragments, {kFar, kFar, kFar});
  double everywhere = 0.1;
  switch (kind) {
  case HeadKind::Local:
    addComponent(kernel(1.3 * spread, 3.5 * spread), 0.9, 0);
    break;
  case HeadKind::Temporal:
    addComponent(kernel(14 * spread, 1.6 * spread), 0.75, 0);
    addComponent(kernel(1.0, 3.0), 0.15, 0.4);
    break;
  case HeadKind::Spatial:
    addComponent(kernel(0.8 * spread, 24 * spread), 0.8, 0);
    addComponent(kernel(6, 4), 0.1, 0.3);
    break;
  case HeadKind::Sink:
    addComponent(sinkEnergies(), 0.45, -0.4);
    addComponent(kernel(1.2 * spread, 4 * spread), 0.45, 0);
    break;
  case HeadKind::Scattered:
    addComponent(kernel(3 * spread, 5 * spread), 0.35, 0);
    everywhere = 0.65;
    break;
  case HeadKind::NearDense:
  case HeadKind::Repetitive:
    addComponent(kernel(6, 12), 0.3, 0);
    everywhere = 0.7;
    break;
  }
  if (kind == HeadKind::Scattered) {
    // Salient key blocks draw attention from everywhere.
    std::vector<float> salience(numBlocks);
    double total = 0;
    for (uint32_t c = 0; c < numBlocks; ++c) {
      const float a = nearNormal(counterHash(seed ^ 0x5a11e47, c / 5));
      const float b = nearNormal(counterHash(seed ^ 0x5a11e48, c));
      total += salience[c] = quickExp(1.5f * a + 0.4f * b);
    }
    uniform = equalRows(salience, total);
  }
  addComponent(std::move(uniform), everywhere, 0.5);

  noise = smoothNoise(counterHash(seed, 1), kStepNoise);
  turnedNoise = smoothNoise(counterHash(seed, 2), kStepNoise);
  for (uint32_t p = 0; p < prompts; ++p) {
    promptFactor.push_back(smoothNoise(counterHash(seed, 16 + p), kPromptNoise));
    for (float &x : promptFactor.back())
      x = quickExp(x);
  }
}

void SyntheticHead::addComponent(std::vector<float> energies, double weight, double drift) {
  components.push_back({std::move(energies), weight, drift});
}

std::vector<float> SyntheticHead::sinkEnergies() const {
  // The first frame, its first blocks most.
  const double frameBlocks = double(preset.grid.height) * preset.grid.width / 128;
  std::vector<float> row(numBlocks);
  double total = 0;
  for (uint32_t c = 0; c < numBlocks; ++c) {
    const double inFrame = std::clamp(frameBlocks - c, 0.0, 1.0);
    row[c] = float(inFrame * (1 + 6 * std::exp(-double(c)))) + 1e-6f;
    total += row[c];
  }
  return equalRows(row, total);
}

std::vector<float> SyntheticHead::smoothNoise(uint64_t fieldSeed, double sigma) const {
  const uint32_t columns = numBlocks / kNoiseColumns + 2;
  const uint32_t rows = numBlocks / kNoiseRows + 2;
  std::vector<float> knots(size_t(rows) * columns);
  for (size_t i = 0; i < knots.size(); ++i)
    knots[i] = float(sigma) * nearNormal(counterHash(fieldSeed, i));
  std::vector<float> field(size_t(numBlocks) * numBlocks);
  for (uint32_t r = 0; r < numBlocks; ++r) {
    const float *above = knots.data() + size_t(r / kNoiseRows) * columns;
    const float *below = above + columns;
    const float down = float(r % kNoiseRows) / kNoiseRows;
    for (uint32_t c = 0; c < numBlocks; ++c) {
      const uint32_t i = c / kNoiseColumns;
      const float across = float(c % kNoiseColumns) / kNoiseColumns;
      const float left = above[i] + down * (below[i] - above[i]);
      const float right = above[i + 1] + down * (below[i + 1] - above[i + 1]);
      field[size_t(r) * numBlocks + c] = left + across * (right - left);
    }
  }
  return field;
}

void SyntheticHead::mix(double time, std::vector<float> &energies) const {
  const double angle = kEarlyTurn * (1 - std::exp(-kTurnRate * time)) + kLateTurn * time;
  const float keep = float(std::cos(angle)), turn = float(std::sin(angle));
  const double early = std::exp(-6 * time);
  energies.assign(noise.size(), 0);
  for (const Component &component : components) {
    const float weight = float(component.weight * std::exp(component.drift * early));
    for (size_t i = 0; i < energies.size(); ++i)
      energies[i] += weight * component.energies[i];
  }
  for (size_t i = 0; i < energies.size(); ++i)
    energies[i] *= quickExp(keep * noise[i] + turn * turnedNoise[i]);
}

void SyntheticHead::addPrompt(const std::vector<float> &energies, uint32_t prompt,
                              std::vector<float> &noisy) const {
  const std::vector<float> &factor = promptFactor[prompt];
  noisy.resize(energies.size());
  for (size_t i = 0; i < energies.size(); ++i)
    noisy[i] = energies[i] * factor[i];
}

} // namespace calibatt
