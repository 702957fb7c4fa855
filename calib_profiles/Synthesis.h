// Profiles without a model: block energies made from the geometry of the video
// tokens, then selected by the same code as measured ones.
#pragma once

#include "calib_profiles/EnergySchedule.h"
#include "calib_profiles/Profile.h"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace calibatt {

/// What a head attends to.
enum class HeadKind : uint8_t {
  Local,      ///< near in frame, row and column
  Temporal,   ///< the same place in all frames
  Spatial,    ///< its own frame
  Sink,       ///< the first frame and the neighbourhood
  Scattered,  ///< salient places anywhere
  NearDense,  ///< nearly everything
  Repetitive, ///< rows alike: the score is at least gamma at most steps
};
constexpr uint32_t kHeadKinds = 7;
const char *headKindName(HeadKind kind);

/// Shape of a model at one video size.
struct SynthesisPreset {
  const char *name;
  Grid grid;
  uint32_t layers, heads, headDim, steps;
  uint32_t prompts; ///< pseudo-prompts that vote
  double shift;     ///< of the flow-matching schedule that spaces sigma
  double spread;    ///< scales the reach of all heads; fits the density of the paper
};

std::span<const SynthesisPreset> synthesisPresets();

/// A preset and the part of it wanted.
struct SynthesisOptions {
  std::string preset;
  /// Layers and steps wanted, spread evenly over the model's; heads from 0 on. 0: all.
  uint32_t layers = 0, heads = 0, steps = 0;
  uint64_t seed = 0;
};

/// A synthetic profile. A site depends on the preset, the seed, and its own
/// layer, head and step in the model, not on which part is asked for.
class Synthesis {
public:
  static Result<Synthesis> create(const SynthesisOptions &options);

  const ProfileHeader &header() const { return profileHeader; }
  /// Masks of all steps. Safe from several threads; index < layers, heads.
  HeadProfile head(uint32_t layer, uint32_t head) const;
  HeadKind kind(uint32_t layer, uint32_t head) const;
  /// Layer or step of the model behind one of this profile.
  uint32_t modelLayer(uint32_t layer) const { return layers[layer]; }
  uint32_t modelStep(uint32_t step) const { return steps[step]; }

private:
  Synthesis() = default;

  const SynthesisPreset *preset = nullptr;
  uint64_t seed = 0;
  std::vector<uint32_t> layers, steps;
  EnergySchedule schedule;
  ProfileHeader profileHeader;
};

} // namespace calibatt
