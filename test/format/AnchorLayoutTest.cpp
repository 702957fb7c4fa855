// Which rows a repetitive head computes and where their outputs go.
#include "runtime/format/AnchorLayout.h"
#include "test/format/EmittedText.h"
#include "test/format/Samples.h"

#include <doctest/doctest.h>

using namespace calibatt;
using namespace calibatt::test;

namespace {

/// How many outputs are stored wrongly: not once, or not from the nearest anchor row.
uint64_t wrongOutputs(const AnchorGrid &grid, uint32_t frames) {
  const uint32_t tokens = frames * grid.height * grid.width;
  std::vector<uint32_t> source(tokens, UINT32_MAX);
  uint64_t wrong = 0;
  for (uint32_t i = 0; i < packedQueries(grid, tokens); ++i) {
    const PackedQuery query = packedQuery(grid, i);
    if (query.copies < 1 || query.copies > grid.height) {
      ++wrong;
      continue;
    }
    for (uint32_t copy = 0; copy < query.copies; ++copy) {
      const uint64_t token = query.first + uint64_t(copy) * grid.width;
      wrong += token >= tokens || source[token] != UINT32_MAX;
      if (token < tokens)
        source[token] = query.token;
    }
  }
  for (uint32_t token = 0; token < tokens; ++token) {
    const uint32_t from = source[token], frame = grid.height * grid.width;
    if (from >= tokens || from / frame != token / frame || from % grid.width != token % grid.width)
      ++wrong;
    else
      wrong += grid.height < 100 && from != anchorToken(grid, token);
  }
  return wrong;
}

} // namespace

TEST_CASE("every output of a repetitive head is stored once, in its column and frame") {
  Random random;
  CAPTURE(random.seed);
  for (int run = 0; run < 200; ++run) {
    const uint32_t height = uint32_t(random.integer(2, 60));
    const AnchorGrid grid{height, uint32_t(random.integer(1, 70)),
                          uint32_t(random.integer(1, height - 1))};
    const uint32_t frames = uint32_t(random.integer(1, 4));
    CAPTURE(grid.height);
    CAPTURE(grid.width);
    CAPTURE(grid.anchors);
    REQUIRE(isValid(grid, frames * grid.height * grid.width));
    CHECK(wrongOutputs(grid, frames) == 0);
  }
  // The highest grid, where 32 bits are used up.
  CHECK(wrongOutputs({kMaxGridHeight, 2, kMaxGridHeight - 1}, 1) == 0);
}

TEST_CASE("a grid too high for the arithmetic of anchor rows is no grid, in images and in text") {
  const AnchorGrid high{60000, 1, 59999};
  CHECK_FALSE(isValid(high, 60000));
  CHECK_FALSE(isValid({kMaxGridHeight + 1, 1, 2}, kMaxGridHeight + 1));
  Random random;
  const Schedule schedule = withAnchors(randomSchedule(random, 60000, 1, 0.01), high);
  for (Form form : {Form::Runs, Form::Table})
    CHECK(decodeScheduleImage(buildScheduleImage(schedule, form), "image").message() ==
          "image: 59999 anchors in a grid of 60000 x 1 do not fit 60000 tokens");
  std::string text = emittedText(randomSchedule(random, 60000, 1, 0.01), Form::Schedule);
  const std::string tokens = ".tokens = 60000";
  text.insert(text.find(tokens) + tokens.size(),
              ", .grid_height = 60000, .grid_width = 1, .anchors = 59999");
  CHECK(decodeEmittedSchedule(text, "text").message() ==
        "text: CUDA text: 59999 anchors in a grid of 60000 x 1 do not fit 60000 tokens");
}
