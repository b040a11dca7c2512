#include "bind/register.hpp"

namespace fh::bind {

void register_simulate(nanobind::module_& m) { (void)m; }

}  // namespace fh::bind
