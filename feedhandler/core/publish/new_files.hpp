// Files of a channel on their way into place.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "mapping.hpp"

namespace fh::publish {

// They are made as NAME.new, and removed unless they come into place: also when making one of them fails.
// Declare it before the mappings.
class NewFiles {
  public:
    NewFiles(std::string directory, std::vector<std::string> names)
        : directory_(std::move(directory)), names_(std::move(names)) {}
    NewFiles(const NewFiles&) = delete;
    NewFiles& operator=(const NewFiles&) = delete;
    ~NewFiles() {
        if (in_place_) return;
        for (const std::string& name : names_) ::unlink(made(name).c_str());
    }

    std::string made(const std::string& name) const { return directory_ + "/" + name + ".new"; }

    // Throws ChannelError. A run that crashed may have left files that take the room: they go then, though
    // readers could have looked at them a little longer. Not the last of the names, which says who died.
    Mapping create(const std::string& name, std::size_t size) const {
        try {
            return Mapping::create(made(name), size, 0640);
        } catch (const ChannelError&) {
            bool room = false;
            for (std::size_t i = 0; i + 1 < names_.size(); ++i)
                room |= ::unlink((directory_ + "/" + names_[i]).c_str()) == 0;
            if (!room) throw;
        }
        return Mapping::create(made(name), size, 0640);
    }

    // In the order given, in place of those of an earlier start. Throws ChannelError.
    void put_in_place() {
        for (const std::string& name : names_) {
            const std::string path = directory_ + "/" + name;
            if (::rename(made(name).c_str(), path.c_str()) != 0) fail(path, "cannot rename into place");
        }
        in_place_ = true;
    }

  private:
    std::string directory_;
    std::vector<std::string> names_;
    bool in_place_ = false;
};

}  // namespace fh::publish
