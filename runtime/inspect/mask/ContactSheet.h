// Many masks side by side: all heads of a step, all steps of a head.
#pragma once

#include "runtime/inspect/mask/SitePicture.h"

#include <string>

namespace calibatt {

/// Which part of a site changes from mask to mask.
enum class SheetOver : uint8_t { Layers, Heads, Steps };

/// Takes the masks one by one, so that only one is in memory. Each is drawn at
/// one pixel a block or more where there is room, else with its coverage.
class ContactSheet {
public:
  /// `count` masks follow, `first` being one of them. `pixelsPerBlock` 0 chooses
  /// the scale. Fails where the picture would have more than kMaxPixels.
  static Result<ContactSheet> create(const VideoShape &shape, SheetOver over, const Site &first,
                                     uint32_t count, uint32_t pixelsPerBlock = 0);

  void add(const SiteMask &mask);
  /// Title and legend; call once, after the last mask.
  MaskPicture finish();

private:
  /// Where everything is, in pixels.
  struct Layout {
    PixelScale scale;
    uint32_t letters = 2; ///< their scale
    uint32_t map = 0, cell = 0, down = 0;
    uint32_t columns = 1, top = 0;
  };
  ContactSheet(const VideoShape &shape, SheetOver over, const Layout &layout, MaskPicture picture)
      : shape(shape), over(over), layout(layout), picture(std::move(picture)) {}

  VideoShape shape;
  SheetOver over;
  Layout layout;
  MaskPicture picture;
  uint32_t added = 0, repetitive = 0;
  double computed = 0, keptMass = 0; ///< sums
};

} // namespace calibatt
