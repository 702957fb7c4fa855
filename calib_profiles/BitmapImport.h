// Masks from elsewhere: plain bitmaps, one tensor a layer and step, turned into a profile.
#pragma once

#include "calib_profiles/Profile.h"

#include <memory>
#include <string>

namespace calibatt {

/// An open file of plain bitmaps (README.md); decodes one head at a time.
class BitmapReader {
public:
  /// Refuses missing masks, masks outside the declared layers and steps, and
  /// tensors it does not know.
  static Result<BitmapReader> open(const std::string &path);
  BitmapReader(BitmapReader &&) noexcept;
  ~BitmapReader();

  /// As the profile's; `tool` is this program if the file names none.
  const ProfileHeader &header() const;
  /// Masks and statistics of all steps. A site whose repetition is at least
  /// gamma must bring a dense mask.
  Result<HeadProfile> head(uint32_t layer, uint32_t head) const;

private:
  struct Impl;
  explicit BitmapReader(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl;
};

} // namespace calibatt
