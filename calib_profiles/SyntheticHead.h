// Block energies of one made-up head, step by step and prompt by prompt.
#pragma once

#include "calib_profiles/Synthesis.h"

#include <cstdint>
#include <vector>

namespace calibatt {

/// splitmix64 of a counter: the only source of randomness of synthesis.
uint64_t counterHash(uint64_t seed, uint64_t counter);
/// Uniform in [0, 1).
double counterUniform(uint64_t seed, uint64_t counter);

/// A head's static fields, mixed anew for every step.
class SyntheticHead {
public:
  /// `seed` is the head's own. `prompts` noise fields of [blocks, blocks] are
  /// made at once and held.
  SyntheticHead(const SynthesisPreset &preset, HeadKind kind, uint64_t seed, uint32_t prompts);

  uint32_t blocks() const { return numBlocks; }
  /// Energies of a step before any prompt's noise, `time` = step / steps of the model.
  void mix(double time, std::vector<float> &energies) const;
  /// energies * the prompt's noise.
  void addPrompt(const std::vector<float> &energies, uint32_t prompt,
                 std::vector<float> &noisy) const;

private:
  struct Component {
    std::vector<float> energies; // [blocks, blocks], rows sum to 1
    double weight;               // late
    double drift;                // log of the factor at time 0
  };
  void addComponent(std::vector<float> energies, double weight, double drift);
  std::vector<float> sinkEnergies() const;
  std::vector<float> smoothNoise(uint64_t seed, double sigma) const;

  const SynthesisPreset &preset;
  uint64_t seed;
  uint32_t numBlocks;
  std::vector<Component> components;
  std::vector<float> noise, turnedNoise;        // log energies, mixed by an angle
  std::vector<std::vector<float>> promptFactor; // [prompts]
};

} // namespace calibatt
