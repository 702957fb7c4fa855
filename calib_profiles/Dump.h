// Q and K of one prompt, dumped by whatever ran the model (README.md).
#pragma once

#include "calib_profiles/Profile.h"

#include <memory>
#include <string>
#include <vector>

namespace calibatt {

/// `__metadata__` key of its document.
constexpr const char *kDumpKey = "calibatt_dump";

/// What a dump says about itself.
struct DumpHeader {
  std::string model;
  Grid grid;
  uint32_t headDim = 0, layers = 0, heads = 0;
  std::vector<StepInfo> steps;
  std::string promptId;
  double scale = 0;
  std::string dtype; ///< of all its tensors, "bf16" or "f32"
};

/// An open dump; every tensor's type and shape are checked.
/// Safe from several threads.
class DumpReader {
public:
  static Result<DumpReader> open(const std::string &path);
  DumpReader(DumpReader &&) noexcept;
  DumpReader &operator=(DumpReader &&) noexcept;
  ~DumpReader();

  const std::string &path() const;
  const DumpHeader &header() const;
  /// Q and K of one site as float32, [tokens, headDim]. A NaN or infinity is an
  /// error that names file, tensor, head and token.
  Status read(uint32_t layer, uint32_t head, uint32_t step, std::vector<float> &q,
              std::vector<float> &k) const;

private:
  struct Impl;
  explicit DumpReader(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl;
};

} // namespace calibatt
