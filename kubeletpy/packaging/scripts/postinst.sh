case "$1" in
    # triggered: the machine's Python has become another one.
    configure | triggered) release configure ;;
    abort-upgrade | abort-remove | abort-deconfigure) ;;
    *)
        echo "postinst called with unknown argument '$1'" >&2
        exit 1
        ;;
esac
