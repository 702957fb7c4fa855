// Random inputs and scratch folders of the calibration tests.
#pragma once

#include "calib_profiles/BlockMask.h"
#include "calib_profiles/Energy.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

namespace calibatt::test {

/// A fresh seed every run, printed by doctest where a check fails (CAPTURE it).
inline uint64_t freshSeed() { return std::random_device{}(); }

struct RandomHead {
  std::vector<float> q, k;
  uint64_t tokens;
  uint32_t headDim;
  double scale;

  RandomHead(uint64_t tokens, uint32_t headDim, uint64_t seed, float spread = 2)
      : q(tokens * headDim), k(tokens * headDim), tokens(tokens), headDim(headDim),
        scale(1 / std::sqrt(double(headDim))) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal(0, spread);
    for (auto *values : {&q, &k})
      for (float &x : *values)
        x = normal(random);
  }
  HeadInput input() const { return {q, k, tokens, headDim, scale}; }

  /// softmax(scale q k^T), the whole matrix in float64.
  std::vector<std::vector<double>> attention() const {
    std::vector<std::vector<double>> p(tokens, std::vector<double>(tokens));
    for (uint64_t i = 0; i < tokens; ++i) {
      double max = -1e300, sum = 0;
      for (uint64_t j = 0; j < tokens; ++j) {
        double dot = 0;
        for (uint32_t d = 0; d < headDim; ++d)
          dot += double(q[i * headDim + d]) * double(k[j * headDim + d]);
        p[i][j] = scale * dot;
        max = std::max(max, p[i][j]);
      }
      for (double &x : p[i])
        sum += x = std::exp(x - max);
      for (double &x : p[i])
        x /= sum;
    }
    return p;
  }
};

/// Each block kept with probability `density`, and at least one a row.
inline BlockMask randomMask(uint32_t blocks, double density, std::mt19937_64 &random) {
  BlockMask mask(blocks, blocks);
  std::bernoulli_distribution keep(density);
  for (uint32_t r = 0; r < blocks; ++r) {
    for (uint32_t c = 0; c < blocks; ++c)
      mask.set(r, c, keep(random));
    mask.set(r, random() % blocks);
  }
  return mask;
}

/// A folder that is gone with the test.
class ScratchFolder {
public:
  ScratchFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "calibatt-XXXXXX").string();
    folder = mkdtemp(name.data());
  }
  ~ScratchFolder() { std::filesystem::remove_all(folder); }
  std::string file(const std::string &name) const { return (folder / name).string(); }
  size_t files() const {
    return size_t(std::distance(std::filesystem::directory_iterator(folder), {}));
  }

private:
  std::filesystem::path folder;
};

inline std::string fileBytes(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

} // namespace calibatt::test
