#include "bind/register.hpp"

namespace fh::bind {

void register_book(nanobind::module_& m) { (void)m; }

}  // namespace fh::bind
