'use strict';
// Tests are compiled to build/test and run as plain JavaScript, on the host and in the guest alike.
module.exports = {
  testEnvironment: 'node',
  injectGlobals: false,
  watchman: false,
  roots: ['<rootDir>/build/test'],
  // Machines are shared and the guest is emulated: time is never what a test is about.
  testTimeout: 60_000,
  // (Babel alone takes the guest ten seconds.)
  transform: {},
  testMatch: ['**/*.test.js'],
};
