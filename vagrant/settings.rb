# What the Vagrantfile makes, decided from variables of the environment; nothing here touches a machine.

require "digest"

module Kubeletpy
  # A variable has a value that cannot be meant; the message says which, and what to write.
  class Mistake < StandardError; end

  # Names of boxes by what BOX says, for each provider. Debian's own boxes are made for libvirt only;
  # vagrant-qemu takes boxes of libvirt, and sets addresses by cloud-init, which Debian's lack.
  BOXES = {
    "debian12" => {
      "libvirt" => "debian/bookworm64",
      "virtualbox" => "bento/debian-12",
      "qemu" => "cloud-image/debian-12",
    },
    "debian13" => {
      "libvirt" => "debian/trixie64",
      "virtualbox" => "bento/debian-13",
      "qemu" => "cloud-image/debian-13",
    },
    "ubuntu2404" => {
      "libvirt" => "cloud-image/ubuntu-24.04",
      "virtualbox" => "bento/ubuntu-24.04",
      "qemu" => "cloud-image/ubuntu-24.04",
    },
  }.freeze

  PROVIDERS = %w[libvirt virtualbox qemu].freeze
  MOST_NODES = 50
  # VirtualBox makes host-only networks within 192.168.56.0/21 unless its configuration says more.
  DEFAULT_NETWORK = "192.168.58".freeze
  POD_CIDRS = %w[10.244.0.0/16 fd00:10:244::/56].freeze
  SERVICE_CIDRS = %w[10.96.0.0/16 fd00:10:96::/112].freeze

  # One virtual machine: its name, which is its hostname too, its addresses, and its role.
  Machine = Struct.new(:name, :address, :address6, :server?, keyword_init: true)

  # Everything that the variables decide.
  class Settings
    attr_reader :cpus, :memory, :api_port, :network, :token, :ca_cert_hash, :box_url

    # @param environment [Hash] variables by name, usually ENV
    # @raise [Mistake] one of them has a value that cannot be meant
    def initialize(environment)
      @environment = environment
      @nodes = number("NODES", 2, 0..MOST_NODES)
      @cpus = number("CPUS", 2, 1..64)
      @memory = number("MEMORY", 2048, 1024..1_048_576)
      @api_port = number("API_PORT", 6443, 1024..65_535)
      @network = matching("NETWORK", DEFAULT_NETWORK, /\A(\d{1,3})\.(\d{1,3})\.(\d{1,3})\z/,
        "the first three numbers of a private network of IPv4, like 192.168.58")
      @dual_stack = number("DUAL_STACK", 0, 0..1) == 1
      @box_url = text("BOX_URL")
      @box = text("BOX") || "debian12"
      unless BOXES.key?(@box) || @box.include?("/") || @box_url
        raise Mistake, "BOX=#{@box} is unknown: it is #{BOXES.keys.join(", ")}, a name with a " \
          "slash of a box registry, or any name beside BOX_URL"
      end
      existing_cluster
    end

    # Whether the nodes join a cluster that is not made here.
    def existing?
      !@server.nil?
    end

    def dual_stack?
      @dual_stack
    end

    # The box of a provider, by its name in a registry.
    def box(provider)
      BOXES.fetch(@box, {}).fetch(provider, @box)
    end

    # The URL at which nodes find the API server.
    def server_url
      @server || "https://#{address(10)}:6443"
    end

    # Whether the machine of the control plane runs pods: only where no other one does.
    def server_runs_pods?
      @nodes.zero?
    end

    # The machines, the server first: that is the order in which Vagrant starts them.
    def machines
      nodes = (1..@nodes).map { |index| machine("node#{index}", 10 + index, false) }
      existing? ? nodes : [machine("server", 10, true), *nodes]
    end

    # Ranges for pods and Services, comma-separated, as `kubeletpy install server` takes them.
    def cidrs(of_each_family)
      of_each_family.first(dual_stack? ? 2 : 1).join(",")
    end

    # An address of multicast that another directory's machines do not share.
    def multicast(directory)
      bytes = Digest::SHA256.digest(directory).bytes
      "239.255.#{bytes[0]}.#{bytes[1]}:#{20_000 + (bytes[2] << 8 | bytes[3]) % 20_000}"
    end

    private

    def machine(name, last, server)
      six = dual_stack? ? "fd00:#{network.split(".").last}::#{last}" : nil
      Machine.new(name: name, address: address(last), address6: six, server?: server)
    end

    def address(last)
      "#{network}.#{last}"
    end

    def existing_cluster
      @server = matching("SERVER", nil, %r{\Ahttps://[^/\s]+\z},
        "the URL of the existing cluster's API server, like https://192.0.2.10:6443")
      @token = matching("TOKEN", nil, /\A[a-z0-9]{6}\.[a-z0-9]{16}\z/,
        "a bootstrap token, which `kubeletpy token create` on the server prints")
      @ca_cert_hash = matching("CA_CERT_HASH", nil, /\Asha256:[0-9a-f]{64}(,sha256:[0-9a-f]{64})*\z/,
        "sha256: and 64 hexadecimal digits, as `kubeletpy token create --print-join-command` prints it")
      given = {"SERVER" => @server, "TOKEN" => @token, "CA_CERT_HASH" => @ca_cert_hash}
      missing = given.select { |_, value| value.nil? }.keys
      return if missing.length == given.length
      unless missing.empty?
        raise Mistake, "#{missing.join(" and ")} missing: to join a cluster that exists set SERVER, " \
          "TOKEN and CA_CERT_HASH, which `kubeletpy token create --print-join-command` there prints; " \
          "for a cluster of its own set none of them"
      end
      raise Mistake, "NODES=0 beside SERVER leaves no machine to make" if @nodes.zero?
    end

    def text(name)
      value = @environment[name]
      value.nil? || value.strip.empty? ? nil : value.strip
    end

    def number(name, default, range)
      value = text(name) || default.to_s
      return value.to_i if value.match?(/\A\d{1,7}\z/) && range.cover?(value.to_i)

      raise Mistake, "#{name}=#{value} has to be a number from #{range.begin} to #{range.end}"
    end

    def matching(name, default, pattern, meaning)
      value = text(name) || default
      return value if value.nil? || value.match?(pattern)

      # The value is not repeated: it may be a secret with a slip in it.
      raise Mistake, "#{name} has to be #{meaning}"
    end
  end
end
