#include "bind/register.hpp"

namespace fh::bind {

void register_sequence(nanobind::module_& m) { (void)m; }

}  // namespace fh::bind
