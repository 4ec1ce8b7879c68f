case "$1" in
    # The new package's postinst replaces what runs.
    upgrade | failed-upgrade | deconfigure) ;;
    remove)
        release check-removal
        release remove
        ;;
    *)
        echo "prerm called with unknown argument '$1'" >&2
        exit 1
        ;;
esac
