// Loads the DPDK plugin: the core itself is linked to nothing of DPDK.
#pragma once

#include <dlfcn.h>

#include <filesystem>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "receive/dpdk/plugin_abi.hpp"

namespace fh::receive {

// Where the build puts it: beside the shared object that this is part of.
inline std::string default_dpdk_plugin() {
    static const int here = 0;
    Dl_info info{};
    if (dladdr(&here, &info) == 0 || info.dli_fname == nullptr) return "_dpdk.so";
    return (std::filesystem::path(info.dli_fname).parent_path() / "_dpdk.so").string();
}

// An open plugin with its ports. The object stays loaded: what DPDK has started cannot be stopped.
class DpdkPlugin {
  public:
    // `path` "": the one of the build. Throws with one line.
    DpdkPlugin(const std::string& path, std::span<const fh_dpdk_port> ports,
               std::span<const std::string> arguments, std::uint32_t rx_descriptors)
        : api_(load(path.empty() ? default_dpdk_plugin() : path)) {
        std::vector<const char*> words;
        for (const std::string& argument : arguments) words.push_back(argument.c_str());
        const fh_dpdk_settings settings{
            sizeof(fh_dpdk_settings),
            static_cast<std::uint32_t>(ports.size()),
            ports.data(),
            static_cast<std::uint32_t>(words.size()),
            rx_descriptors,
            words.data(),
        };
        char error[512] = "";
        handle_ = Handle(api_->open(&settings, error, sizeof(error)), Close{api_});
        if (handle_ == nullptr) throw std::runtime_error("receive.mode \"dpdk\": " + std::string(error));
    }

    std::size_t poll(std::uint32_t port, std::span<fh_dpdk_frame> out) const {
        return api_->poll(handle_.get(), port, out.data(), out.size());
    }
    fh_dpdk_stats stats(std::uint32_t port) const {
        fh_dpdk_stats out{};
        api_->stats(handle_.get(), port, &out);
        return out;
    }
    // Any thread.
    std::string take_log() const {
        std::string out(64 << 10, '\0');
        out.resize(api_->take_log(handle_.get(), out.data(), out.size()));
        return out;
    }

  private:
    struct Close {
        const fh_dpdk_api* api;
        void operator()(void* handle) const { api->close(handle); }
    };
    using Handle = std::unique_ptr<void, Close>;

    static const fh_dpdk_api* load(const std::string& path) {
        if (!std::filesystem::exists(path))
            throw std::runtime_error("receive.mode \"dpdk\": no plugin at " + path);
        void* const object = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        // NOLINTNEXTLINE(concurrency-mt-unsafe): each thread has its own
        if (object == nullptr) throw std::runtime_error("receive.dpdk.plugin: " + std::string(dlerror()));
        void* const symbol = dlsym(object, "fh_dpdk_plugin");
        if (symbol == nullptr)
            throw std::runtime_error("receive.mode \"dpdk\": " + path + " is no plugin for it");
        const fh_dpdk_api* const api = reinterpret_cast<fh_dpdk_plugin_function*>(symbol)();
        if (api->version != fh_dpdk_version || api->size != sizeof(fh_dpdk_api))
            throw std::runtime_error("receive.mode \"dpdk\": " + path + " is of version " +
                                     std::to_string(api->version) + ", this build needs version " +
                                     std::to_string(fh_dpdk_version) + ": build both together");
        return api;
    }

    const fh_dpdk_api* api_;
    Handle handle_{nullptr, Close{nullptr}};
};

}  // namespace fh::receive
