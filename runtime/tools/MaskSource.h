// Masks from a profile or from a package, whichever a file is.
#pragma once

#include "runtime/inspect/SiteListing.h"
#include "runtime/inspect/mask/SiteMask.h"

#include <memory>
#include <string>

namespace calibatt {

class MaskSource {
public:
  /// Tells by the file's own format what it is.
  static Result<std::unique_ptr<MaskSource>> open(const std::string &path);
  virtual ~MaskSource() = default;

  virtual const std::string &path() const = 0;
  virtual VideoShape shape() const = 0;
  /// "package" or "profile".
  virtual const char *kind() const = 0;
  struct Counts {
    uint32_t layers, heads, steps;
  };
  virtual Counts counts() const = 0;
  /// The site must be inside counts(). Cheapest head by head in a profile, and
  /// step by step in a package whose kernels run all heads of one.
  virtual Result<SiteMask> mask(const Site &site) = 0;

  /// Fails, naming the file and both numbers, where a number is outside.
  Status check(const SiteFilter &filter) const;
};

} // namespace calibatt
