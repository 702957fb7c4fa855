// What the runtime's tests share: packages built by hand, tensors with odd strides and poisoned
// gaps, and an independent float64 masked reference.
#pragma once

#include "runtime/format/ScheduleImage.h"
#include "runtime/include/calibatt/calibatt.h"
#include "test/format/Samples.h"

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace calibatt::test {

/// What a hand-built package is made of.
struct SampleShape {
  uint32_t layers = 1, heads = 2, steps = 2, tokens = 420, headDim = 64;
  Form form = Form::Runs;
  bool perHead = false; ///< --granularity head
  double density = 0.5;
  uint32_t minDriver = 13000;
  std::string arch = "sm_90a";
  uint32_t denseHeads = 1;         ///< heads in the dense kernel's schedule
  bool persistent = false;         ///< CTAs walk lists of tiles
  AnchorGrid grid = {};            ///< where given, the last head is repetitive (not with perHead)
  bool calibration = false;        ///< calibration kernels too
  uint32_t frames = 1, height = 1; ///< of the patch grid, where `grid` does not say
  bool tellsSteps = true;          ///< the manifest has the schedule
};

/// A package on disk, and the schedules that went into it.
struct SamplePackage {
  SampleShape shape;
  ScratchFolder folder;
  std::string path;
  double scale = 0;
  std::vector<Schedule> schedules; ///< [layer][step], all heads

  SamplePackage(Random &random, const SampleShape &shape);
  const Schedule &schedule(uint32_t layer, uint32_t step) const {
    return schedules[size_t(layer) * shape.steps + step];
  }
};

/// The schedule of some heads of another.
Schedule sliceHeads(const Schedule &schedule, uint32_t begin, uint32_t count);

/// Where the elements of a test tensor lie.
enum class Layout { Contiguous, TokenMajor, Padded };

/// A [batch, heads, tokens, dim] tensor; gaps and fresh outputs are NaN.
class TestTensor {
public:
  TestTensor(calibatt_dtype_t dtype, Layout layout, uint32_t batch, uint32_t heads, uint32_t tokens,
             uint32_t dim);
  void fillNormal(Random &random, double deviation);
  double get(uint32_t b, uint32_t h, uint32_t t, uint32_t d) const;
  void set(uint32_t b, uint32_t h, uint32_t t, uint32_t d, double value);
  void *data() { return storage.data(); }
  const std::array<int64_t, 3> &strides() const { return stride; }
  /// Elements that belong to no row and are no longer NaN.
  uint64_t disturbedGaps() const;

  uint32_t batch, heads, tokens, dim;

private:
  size_t offset(uint32_t b, uint32_t h, uint32_t t, uint32_t d) const;
  double read(size_t element) const;

  calibatt_dtype_t dtype;
  std::array<int64_t, 3> stride{};
  size_t elements = 0;
  std::vector<uint8_t> storage;
};

/// The tensors of one call.
struct TestCall {
  TestTensor q, k, v, o;
  std::vector<float> lse; ///< [batch, heads, tokens], NaN at first
  calibatt_call_t call;

  TestCall(Random &random, calibatt_dtype_t dtype, Layout layout, uint32_t batch, uint32_t heads,
           const SampleShape &shape, double deviation = 1.5);
};

/// Largest deviation from the float64 reference over all heads and batch entries.
struct Deviation {
  double relativeRms = 0; ///< of o
  double lse = 0;         ///< absolute
};
/// Tensor head h uses schedule head h + headBegin. Every key block of a row counts once.
Deviation compareWithReference(const TestCall &call, const Schedule &schedule, uint32_t headBegin,
                               double scale);

} // namespace calibatt::test
