// Holds the memberships of lines whose packets come past the kernel: without them no switch sends any. The
// kernel goes on answering the queries of the network for as long as these sockets are open.
#pragma once

#include <span>
#include <vector>

#include "receive/multicast.hpp"

namespace fh::receive {

class Memberships {
  public:
    Memberships() = default;
    explicit Memberships(std::span<const LineSettings> lines) {
        for (const LineSettings& line : lines) {
            // Bound to no port: nothing is ever queued here.
            Descriptor fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
            require(fd.get() >= 0, "line " + line.name + ": socket");
            join(fd.get(), line);
            sockets_.push_back(std::move(fd));
        }
    }

  private:
    std::vector<Descriptor> sockets_;
};

}  // namespace fh::receive
