#include "bind/register.hpp"

namespace fh::bind {

void register_replay(nanobind::module_& m) { (void)m; }

}  // namespace fh::bind
