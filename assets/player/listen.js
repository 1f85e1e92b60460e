// anywidget (seen with 0.11.0) waits two seconds for the script of a widget, then gives the model up, and ipywidgets (8.1, with
// jupyterlab_widgets 3.0) has no second try: on a slow machine the model would be deaf for ever to what the kernel tells it.
// Here it learns to listen by itself, and asks for what it has missed.
export async function listen(model) {
  const whole = await model.widget_manager?.get_model?.(model.get("itself"));
  const nothing = { content: { data: {} } };
  whole?._handle_comm_msg?.(nothing).catch(() => {
    const heard = Object.getPrototypeOf(Object.getPrototypeOf(whole))._handle_comm_msg;
    whole.comm.on_msg((message) => heard.call(whole, message));
    whole.comm.send({ method: "request_state" });
  });
}
