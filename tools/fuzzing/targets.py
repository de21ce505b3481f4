"""The places where files and messages enter, each with inputs for it and the errors that it declares."""

from edgeemu.errors import RequestError
from edgeemu.links.messages import WireError
from edgeemu_kernels.errors import ModelFileError
from fuzzing import messages, model_files, recorded_run, scenario_files
from fuzzing.example import Target

TARGETS = {
    "yaml": Target(scenario_files.make_yaml, scenario_files.use_scenario, (RequestError,)),
    "traces": Target(scenario_files.make_trace, scenario_files.use_scenario, (RequestError,)),
    "prompts": Target(scenario_files.make_prompts, scenario_files.use_scenario, (RequestError,)),
    "gguf": Target(model_files.make_gguf, model_files.use_gguf, (ModelFileError,)),
    "safetensors": Target(model_files.make_safetensors, model_files.use_directory, (ModelFileError,)),
    "config": Target(model_files.make_config, model_files.use_directory, (ModelFileError,)),
    "tokenizer": Target(model_files.make_tokenizer, model_files.use_tokenizer_files, (ModelFileError,)),
    "template": Target(model_files.make_template, model_files.render_template, (ModelFileError,)),
    "wire": Target(messages.make_wire, messages.decode_wire, (WireError,)),
    "control": Target(messages.make_control, messages.decode_control, ()),
    "records": Target(recorded_run.make, recorded_run.report, (RequestError,)),
}
