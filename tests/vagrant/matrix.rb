# What the Vagrantfile makes of variables, by Vagrant's own library, as JSON.
#
# ruby matrix.rb FOLDER STATE < cases: FOLDER has the Vagrantfile, STATE is for what Vagrant keeps.
# Each case has variables, providers and how many machines to look at; the answer has a list for each.

require "json"
require "vagrant"

# The settings of the providers that are plug-ins, by their documentation: another name is an error.
module Providers
  class Libvirt < Vagrant.plugin("2", :config)
    attr_accessor :cpus, :memory
  end

  class Qemu < Vagrant.plugin("2", :config)
    attr_accessor :smp, :memory, :ssh_auto_correct, :advanced_network, :net_mode, :socket_opts
  end

  class Plugin < Vagrant.plugin("2")
    name "settings of providers"
    config(:libvirt, :provider) { Libvirt }
    config(:qemu, :provider) { Qemu }
  end
end

def read(config, name)
  value = config.instance_variable_get("@#{name}")
  value.is_a?(Symbol) ? value.to_s : value
end

def described(name, provider, config)
  vm = config.vm
  own = vm.get_provider_config(provider)
  {
    name: name, provider: provider, hostname: vm.hostname, box: vm.box, box_url: vm.box_url,
    networks: vm.networks.map { |kind, options| options.merge(kind: kind) }.reject { |n| n[:id] == "ssh" },
    provider_settings: %w[cpus smp memory ssh_auto_correct advanced_network net_mode socket_opts].to_h { |s| [s, read(own, s)] },
    customizations: (own.customizations.map(&:last) if provider == :virtualbox),
    folders: vm.synced_folders.values.reject { |folder| folder[:disabled] },
    files: vm.provisioners.select { |p| p.type == :file }.map { |p| p.config.destination },
    scripts: vm.provisioners.select { |p| p.type == :shell }.map { |p| {inline: p.config.inline, env: p.config.env} },
    triggers: (config.trigger.before_triggers + config.trigger.after_triggers).map { |t| t.command.to_s },
  }
end

folder, state = ARGV
before = ENV.to_h
answers = JSON.parse($stdin.read).map do |variables, providers, count|
  ENV.replace(before.merge(variables))
  environment = Vagrant::Environment.new(cwd: folder, ui_class: Vagrant::UI::Silent, local_data_path: state)
  providers.map(&:to_sym).flat_map do |provider|
    environment.vagrantfile.machine_names.first(count).map do |name|
      found = environment.vagrantfile.machine_config(name, provider, nil, nil, false)
      problems = found[:config_warnings] + found[:config_errors]
      raise "#{variables}: #{name} with #{provider}: #{problems.join("; ")}" unless problems.empty?

      described(name, provider, found[:config])
    end
  end
end
puts JSON.generate(answers)
