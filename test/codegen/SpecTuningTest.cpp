#include "codegen/SpecTuning.h"

#include <doctest/doctest.h>

using namespace calibatt;

TEST_CASE("tuning sets the fields it names and leaves the others") {
  AttentionSpec spec{.head_dim = 64, .tokens = 420, .scale = 0.125f};
  AttentionSpec wanted = spec;
  wanted.stages = 3;
  wanted.lazy_rescale = false;
  REQUIRE(applyTuning(spec, "stages=3,lazy_rescale=0"));
  CHECK(spec == wanted);
  REQUIRE(applyTuning(spec, ""));
  CHECK(spec == wanted);
}

TEST_CASE("what tuning prints is what it reads") {
  AttentionSpec spec;
  spec.stages = 1;
  spec.ping_pong = false;
  spec.watchdog = true;
  CHECK(tuningText(spec) ==
        ".stages = 1, .ping_pong = false, .lazy_rescale = true, .persistent = true, "
        ".frozen_max = true, .mma_sums = true, .watchdog = true");
  AttentionSpec read;
  REQUIRE(applyTuning(read, "stages=1,ping_pong=0,lazy_rescale=1,watchdog=1"));
  CHECK(read == spec);
}

TEST_CASE("bad tuning is refused by name and changes nothing") {
  AttentionSpec spec;
  const AttentionSpec before = spec;
  auto messageOf = [&](const char *text) {
    Status status = applyTuning(spec, text);
    REQUIRE_FALSE(status);
    CHECK(spec == before);
    return status.message();
  };
  CHECK(messageOf("stages=3,depth=2") ==
        "tuning names \"depth\", wanted one of stages, ping_pong, lazy_rescale, persistent, "
        "frozen_max, mma_sums, watchdog");
  CHECK(messageOf("head_dim=64") ==
        "tuning names \"head_dim\", wanted one of stages, ping_pong, lazy_rescale, persistent, "
        "frozen_max, mma_sums, watchdog");
  CHECK(messageOf("stages=3,ping_pong=2") == "tuning \"ping_pong\" has the value 2, wanted 0 or 1");
  CHECK(messageOf("stages=two") == "tuning \"stages\" has the value \"two\", wanted a number");
  CHECK(messageOf("stages=-1") == "tuning \"stages\" has the value \"-1\", wanted a number");
  CHECK(messageOf("stages=99999999999") ==
        "tuning \"stages\" has the value \"99999999999\", wanted a number");
  CHECK(messageOf("stages") == "tuning \"stages\" is not FIELD=VALUE");
  CHECK(messageOf(",") == "tuning \"\" is not FIELD=VALUE");
}
