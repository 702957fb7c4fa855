// The logarithmic code of mean energies. Boundaries are constants, so that every
// machine and C library has the same bytes.
#include "calib_profiles/EnergyUnits.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace calibatt {

namespace {

/// 2^(-(2i + 1) / 16), between codes i and i + 1 of one octave.
constexpr std::array<double, 8> kBoundaries = {
    0.95760328069857370, 0.87812608018664973, 0.80524516597462714, 0.73841307296974967,
    0.67712777346844633, 0.62092890603674200, 0.56939431737834578, 0.52213689121370688};
/// 2^(-i / 8).
constexpr std::array<double, 8> kOctave = {1.0,
                                           0.91700404320467122,
                                           0.84089641525371450,
                                           0.77110541270397037,
                                           0.70710678118654757,
                                           0.64841977732550482,
                                           0.59460355750136051,
                                           0.54525386633262884};

} // namespace

uint8_t energyCode(uint32_t sum, uint32_t prompts) {
  if (sum == 0)
    return kNoEnergy;
  int exponent = 0;
  // [0.5, 1), the mean being fraction * 2^exponent.
  const double fraction =
      std::frexp(double(sum) / (double(prompts) * double(kEnergyOne)), &exponent);
  int code = -8 * exponent;
  for (double boundary : kBoundaries)
    code += fraction < boundary;
  return uint8_t(std::clamp(code, 0, 254));
}

double energyOfCode(uint8_t code) {
  return code == kNoEnergy ? 0 : std::ldexp(kOctave[code % 8], -(code / 8));
}

} // namespace calibatt
