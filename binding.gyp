{
  'variables': {
    # N-API's own headers, so that it does not matter which Node builds this.
    'napi_headers%': '<!(node -p "require(\'node-api-headers\').include_dir")',
    'napi_cpp_headers%': '<!(node -p "path.dirname(require.resolve(\'node-addon-api\'))")',
  },
  'targets': [
    {
      'target_name': 'node-optee',
      'sources': ['native/binding/addon.cc'],
      'defines': ['NAPI_VERSION=9', 'NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS', 'NODE_ADDON_API_DISABLE_DEPRECATED',
        # An environment that is about to end takes no exceptions any more.
        'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS'],
      'conditions': [
        # As addon.cc decides.
        ['OS=="linux" and target_arch not in "arm ia32 mips mipsel ppc"', {
          'sources': [
            'native/binding/buffers.cc',
            'native/binding/calls.cc',
            'native/binding/client.cc',
            'native/binding/contexts.cc',
            'native/binding/memory.cc',
            'native/binding/shared_views.cc',
            'native/glibc.cc',
            'native/core/call.cc',
            'native/core/context.cc',
            'native/core/dma.cc',
            'native/core/mapping.cc',
            'native/core/memory_limit.cc',
            'native/core/page_source.cc',
            'native/core/release.cc',
            'native/core/shared_memory.cc',
            'native/core/tee.cc',
            'native/core/temporary_memory.cc',
            'native/core/threads.cc',
            'native/core/unique_fd.cc',
          ],
          'cflags_cc!': ['-std=gnu++17', '-std=gnu++20'],
          'cflags_cc': [
            '-std=c++20', '-O2', '-fno-exceptions', '-fno-rtti', '-fvisibility=hidden', '-fno-plt',
            '-ffunction-sections', '-fdata-sections',
            '-Wall', '-Wextra', '-Wpedantic', '-Wconversion', '-Wshadow=local', '-Werror',
            '-isystem', '<(napi_headers)', '-isystem', '<(napi_cpp_headers)',
          ],
          'ldflags': [
            # Node unloads an addon when a worker thread ends; our threads may still be in it.
            '-Wl,-z,nodelete', '-Wl,-z,relro', '-Wl,-z,now', '-Wl,--gc-sections', '-Wl,--version-script=<(module_root_dir)/native/exports.map',
            '-static-libstdc++', '-s',
          ],
          'conditions': [
            # Else each atomic operation is a call that asks first what the processor can do.
            ['target_arch=="arm64"', { 'cflags_cc': ['-mno-outline-atomics'] }],
          ],
        }, {
          'include_dirs': ['<(napi_headers)', '<(napi_cpp_headers)'],
          'xcode_settings': { 'CLANG_CXX_LANGUAGE_STANDARD': 'c++17' },
        }],
      ],
    },
  ],
}
