// Packages run on the host device, compared with a float64 masked reference.
#include "runtime/host/HostExecutor.h"
#include "runtime/host/TileKernel.h"
#include "test/runtime/RuntimeSamples.h"
#include "test/runtime/Session.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace calibatt;
using namespace calibatt::test;

namespace {

// bf16 outputs carry their own rounding, 2^-9 relative at most.
double bound(calibatt_dtype_t dtype) { return dtype == CALIBATT_DTYPE_F32 ? 1e-5 : 3e-3; }

void checkEveryStep(Random &random, const SampleShape &shape, calibatt_dtype_t dtype, Layout layout,
                    uint32_t batch) {
  CAPTURE(random.seed);
  CAPTURE(shape.tokens);
  CAPTURE(shape.headDim);
  CAPTURE(int(shape.form));
  CAPTURE(int(layout));
  CAPTURE(batch);
  CAPTURE(tileKernels().front().name);
  const SamplePackage sample(random, shape);
  const PackageHandle package(sample.path);
  REQUIRE_MESSAGE(package.package, lastError());
  const SessionHandle session(package.package, hostOptions());
  REQUIRE(session.session);
  for (uint32_t layer = 0; layer < shape.layers; ++layer)
    for (uint32_t step = 0; step < shape.steps; ++step) {
      TestCall test(random, dtype, layout, batch, shape.heads, shape);
      test.call.layer = layer;
      test.call.step = step;
      REQUIRE_MESSAGE(calibatt_attention(session.session, &test.call) == CALIBATT_STATUS_OK,
                      lastError());
      const Deviation deviation =
          compareWithReference(test, sample.schedule(layer, step), 0, sample.scale);
      CHECK(deviation.relativeRms < bound(dtype));
      CHECK(deviation.lse < 1e-4);
      CHECK(test.o.disturbedGaps() == 0);
    }
}

} // namespace

TEST_CASE("every form gives the masked attention of its schedule on the host device") {
  Random random;
  for (Form form : {Form::Full, Form::Schedule, Form::Runs, Form::Table})
    for (bool perHead : {false, true}) {
      SampleShape shape;
      shape.form = form;
      shape.perHead = perHead;
      checkEveryStep(random, shape, CALIBATT_DTYPE_F32, Layout::Contiguous, 1);
    }
}

TEST_CASE("lengths that no block divides, both head dims, batches and strides are right") {
  Random random;
  for (uint32_t tokens : {131u, 420u, 560u})
    for (uint32_t headDim : {64u, 128u})
      for (calibatt_dtype_t dtype : {CALIBATT_DTYPE_F32, CALIBATT_DTYPE_BF16}) {
        SampleShape shape;
        shape.tokens = tokens;
        shape.headDim = headDim;
        shape.steps = 1;
        shape.heads = 3;
        checkEveryStep(random, shape, dtype, Layout::Padded, 2);
        checkEveryStep(random, shape, dtype, Layout::TokenMajor, 1);
      }
}

TEST_CASE("a repetitive head beside others gives every row its anchor's output and LSE") {
  Random random;
  const std::pair<AnchorGrid, Form> cases[] = {{{5, 52, 2}, Form::Runs},
                                               {{5, 53, 3}, Form::Table},
                                               {{3, 80, 1}, Form::Full},
                                               {{7, 20, 5}, Form::Schedule}};
  for (const auto &[grid, form] : cases) {
    CAPTURE(grid.width);
    SampleShape shape;
    shape.form = form;
    shape.grid = grid;
    shape.tokens = 2 * grid.height * grid.width;
    shape.steps = 1;
    checkEveryStep(random, shape, CALIBATT_DTYPE_F32, Layout::Padded, 1);
    checkEveryStep(random, shape, CALIBATT_DTYPE_BF16, Layout::TokenMajor, 1);
  }
}

TEST_CASE("lengths of one token, one block and a block and one token are right") {
  Random random;
  for (uint32_t tokens : {1u, 127u, 128u, 129u, 256u}) {
    SampleShape shape;
    shape.tokens = tokens;
    checkEveryStep(random, shape, CALIBATT_DTYPE_F32, Layout::Padded, 2);
  }
}

TEST_CASE("sharp softmaxes neither overflow nor lose the maximum") {
  Random random;
  CAPTURE(random.seed);
  SampleShape shape;
  shape.steps = 1;
  const SamplePackage sample(random, shape);
  const PackageHandle package(sample.path);
  const SessionHandle session(package.package, hostOptions());
  // Logits of a few thousand: all but the largest key of most rows vanish.
  TestCall test(random, CALIBATT_DTYPE_F32, Layout::Contiguous, 1, shape.heads, shape, 40);
  REQUIRE(calibatt_attention(session.session, &test.call) == CALIBATT_STATUS_OK);
  const Deviation deviation = compareWithReference(test, sample.schedule(0, 0), 0, sample.scale);
  CHECK(deviation.relativeRms < 1e-3); // a logit of 5000 has an ulp of 5e-4 in float32
  CHECK(deviation.lse < 1e-2);
}

TEST_CASE("a session of a head range takes tensors of these heads only") {
  Random random;
  CAPTURE(random.seed);
  for (bool perHead : {false, true}) {
    SampleShape shape;
    shape.heads = 5;
    shape.perHead = perHead;
    const SamplePackage sample(random, shape);
    const PackageHandle package(sample.path);
    auto options = hostOptions();
    options.head_begin = 2;
    options.head_count = 2;
    const SessionHandle session(package.package, options);
    REQUIRE(session.session);
    TestCall test(random, CALIBATT_DTYPE_F32, Layout::TokenMajor, 2, 2, shape);
    test.call.step = 1;
    REQUIRE_MESSAGE(calibatt_attention(session.session, &test.call) == CALIBATT_STATUS_OK,
                    lastError());
    CHECK(compareWithReference(test, sample.schedule(0, 1), 2, sample.scale).relativeRms < 1e-5);
  }
}

TEST_CASE("the executor computes the tiles it is given and touches nothing else") {
  Random random;
  CAPTURE(random.seed);
  SampleShape shape;
  shape.heads = 3;
  const Schedule schedule = randomSchedule(random, shape.tokens, shape.heads, 0.5);
  TestCall test(random, CALIBATT_DTYPE_F32, Layout::Padded, 2, shape.heads, shape);
  HostLaunch launch;
  launch.schedule = &schedule;
  launch.headDim = shape.headDim;
  launch.scale = 0.125;
  launch.dtype = HostDtype::F32;
  launch.q = test.call.q;
  launch.k = test.call.k;
  launch.v = test.call.v;
  launch.o = test.call.o;
  const auto &s = test.q.strides();
  launch.qStrides = launch.kStrides = launch.vStrides = launch.oStrides = {s[0], s[1], s[2]};
  const std::vector<HostTile> tiles = {{1, 2, 3}, {0, 1, 0}};
  const Status ran = runHostTiles(launch, tiles, 2);
  REQUIRE(ran);
  for (uint32_t b = 0; b < 2; ++b)
    for (uint32_t h = 0; h < shape.heads; ++h)
      for (uint32_t t = 0; t < shape.tokens; ++t) {
        const bool written = (b == 1 && h == 2 && t >= 384) || (b == 0 && h == 1 && t < 128);
        REQUIRE(std::isnan(test.o.get(b, h, t, 5)) == !written);
      }
  const std::vector<HostTile> outside = {{0, 3, 0}};
  const Status refused = runHostTiles(launch, outside, 1);
  REQUIRE_FALSE(refused);
  CHECK(refused.message().find("tile (head 3, row 0) is outside") != std::string::npos);
}

TEST_CASE("every instruction set of this CPU computes the same visits") {
  Random random;
  CAPTURE(random.seed);
  for (int headDim : {64, 128})
    for (int keys : {1, 17, 36, 128}) {
      const auto tile = std::make_unique<TileState>();
      std::vector<std::unique_ptr<TileState>> results;
      for (float *matrix : {tile->q, tile->kt, tile->v})
        for (uint32_t i = 0; i < kBlock * kTileStride; ++i)
          matrix[i] = float(random.real(-1, 1));
      // What is beyond the keys is zero.
      for (int row = 0; row < int(kBlock); ++row)
        for (int column = 0; column < int(kBlock); ++column) {
          if (column >= keys)
            tile->kt[row * kTileStride + column] = 0;
          if (row >= keys)
            tile->v[row * kTileStride + column] = 0;
        }
      for (const TileKernel &kernel : tileKernels()) {
        results.push_back(std::make_unique<TileState>(*tile));
        beginTile(*results.back(), headDim);
        kernel.visit(*results.back(), headDim, keys);
        kernel.visit(*results.back(), headDim, keys); // twice: o stays, the sum doubles
        CAPTURE(kernel.name);
        for (int row = 0; row < int(kBlock); ++row) {
          REQUIRE(results.back()->sum[row] ==
                  doctest::Approx(results.front()->sum[row]).epsilon(1e-5));
          for (int d = 0; d < headDim; ++d) {
            // Independent, in float64.
            double sum = 0, o = 0;
            for (int key = 0; key < keys && (row % 32 == 0 || d == 5); ++key) {
              double s = 0;
              for (int i = 0; i < headDim; ++i)
                s += double(tile->q[row * kTileStride + i]) * tile->kt[i * kTileStride + key];
              sum += std::exp2(s);
              o += std::exp2(s) * tile->v[key * kTileStride + d];
            }
            if (sum > 0)
              REQUIRE(results.back()->o[row * kTileStride + d] / results.back()->sum[row] ==
                      doctest::Approx(o / sum).epsilon(1e-4).scale(1));
          }
        }
      }
    }
}

TEST_CASE("bf16 rounds to nearest even and keeps NaN and infinity") {
  CHECK(floatToBf16(1.0f) == 0x3F80);
  CHECK(floatToBf16(1.00390625f) == 0x3F80); // half way, to even
  CHECK(floatToBf16(1.01171875f) == 0x3F82); // half way, to even
  CHECK(floatToBf16(std::numeric_limits<float>::infinity()) == 0x7F80);
  CHECK(std::isnan(bf16ToFloat(floatToBf16(std::numeric_limits<float>::quiet_NaN()))));
}
