// Sites on the command line: "L,H,S", or three options.
#pragma once

#include "runtime/inspect/SiteListing.h"

#include <optional>
#include <string>

namespace CLI {
class App;
}

namespace calibatt {

struct SiteArgument {
  std::string text;
  std::optional<uint32_t> layer, head, step;

  /// Registers the positional argument and --layer, --head and --step.
  void addTo(CLI::App &command, const std::string &description = "LAYER,HEAD,STEP, such as 0,1,3");
  /// After parsing: throws what parse() would for a text that is no site, or for none at all.
  /// `several`: one of the three may be open.
  void require(bool several) const;
  /// One site, inside the package's problem.
  Result<Site> resolve(const PackageReader &package) const;
  /// The sites meant, "*" or a missing option being all of a kind. Whether they exist is not
  /// checked.
  Result<SiteFilter> sites() const;
};

} // namespace calibatt
