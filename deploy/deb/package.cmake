# The helper alone as a Debian package, by CPack: `make deb-helper`. What CMake installs as components setuid and glexec,
# the pilot's wrapper, which runs with the helper, and what a package has to have beside.
set(PILOTAGE_SETUID SETUID GROUP_EXECUTE WORLD_EXECUTE)	# with the owner's: 4711

install(FILES pilot/pilotage_pilot/wrapper/pilotage_wrapper.py DESTINATION libexec/pilotage RENAME pilotage-wrapper.py COMPONENT setuid)
install(FILES deploy/deb/helper.conf DESTINATION share/doc/pilotage-helper COMPONENT setuid)
install(FILES LICENSE DESTINATION share/doc/pilotage-helper RENAME copyright COMPONENT setuid)
install(FILES deploy/deb/tmpfiles.conf DESTINATION lib/tmpfiles.d RENAME pilotage-helper.conf COMPONENT setuid)
install(FILES deploy/deb/logrotate DESTINATION /etc/logrotate.d RENAME pilotage-helper COMPONENT setuid)
install(DIRECTORY DESTINATION /etc/pilotage COMPONENT setuid)

file(STRINGS pyproject.toml VERSION_LINE REGEX "^version = " LIMIT_COUNT 1)
string(REGEX REPLACE ".*\"(.*)\".*" "\\1" CPACK_PACKAGE_VERSION "${VERSION_LINE}")
set(CPACK_GENERATOR DEB)
set(CPACK_SET_DESTDIR ON)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_NAME pilotage-helper)
set(CPACK_PACKAGE_VENDOR Pilotage)
set(CPACK_PACKAGE_CONTACT "The Pilotage developers <pilotage@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "runs grid payloads as their owners' local accounts")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "The setuid program pilotage-exec verifies a grid proxy, maps its owner to a local
account and runs a payload there; with its keeper, its verifier, its mapper and glexec. It refuses everybody until
/etc/pilotage/helper.conf is written.")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "passwd, python3")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS logrotate)
set(CPACK_DEBIAN_PACKAGE_CONFLICTS "glexec")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL setuid glexec)
set(CPACK_COMPONENTS_GROUPING ALL_COMPONENTS_IN_ONE)
file(WRITE ${CMAKE_BINARY_DIR}/deb/conffiles "/etc/logrotate.d/pilotage-helper\n")
file(COPY deploy/deb/postinst deploy/deb/postrm DESTINATION ${CMAKE_BINARY_DIR}/deb)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${CMAKE_BINARY_DIR}/deb/conffiles ${CMAKE_BINARY_DIR}/deb/postinst
  ${CMAKE_BINARY_DIR}/deb/postrm)
include(CPack)
