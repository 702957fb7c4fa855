// Writes a hand-built package to argv[1] and prints what went into it as JSON: shape, scale, and
// the key blocks of every row, [layer][head][step][row]. For tests outside C++.
// The samples check their own file handling with doctest, which therefore has to be in here.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include "test/runtime/RuntimeSamples.h"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <exception>
#include <filesystem>

using namespace calibatt;
using namespace calibatt::test;

static int run(const char *path) {
  Random random;
  SampleShape shape;
  shape.layers = 2;
  shape.heads = 3;
  const SamplePackage sample(random, shape);
  std::filesystem::copy_file(sample.path, path, std::filesystem::copy_options::overwrite_existing);
  nlohmann::json blocks;
  for (uint32_t layer = 0; layer < shape.layers; ++layer)
    for (uint32_t head = 0; head < shape.heads; ++head)
      for (uint32_t step = 0; step < shape.steps; ++step)
        for (uint32_t row = 0; row < (shape.tokens + kBlock - 1) / kBlock; ++row)
          blocks[layer][head][step][row] = sample.schedule(layer, step).row(head, row);
  const nlohmann::json content = {{"seed", random.seed},    {"layers", shape.layers},
                                  {"heads", shape.heads},   {"steps", shape.steps},
                                  {"tokens", shape.tokens}, {"head_dim", shape.headDim},
                                  {"scale", sample.scale},  {"blocks", blocks}};
  std::printf("%s\n", content.dump().c_str());
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make-sample-package OUT.calibatt\n");
    return 2;
  }
  doctest::Context context;
  context.setAsDefaultForAssertsOutOfTestCases();
  try {
    return run(argv[1]);
  } catch (const std::exception &error) {
    std::fprintf(stderr, "make-sample-package: %s\n", error.what());
    return 1;
  }
}
